"""The model layer: transformers' own modelling code, called through one attention function. It knows no requests."""

"""What holds for every test: how long an example takes says something of the machine, and nothing of the code."""

from hypothesis import settings

settings.register_profile("quire", parent=settings(), deadline=None)
settings.load_profile("quire")

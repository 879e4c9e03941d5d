"""From what the user named to a folder on this machine. It knows neither torch nor what is inside the folder."""

from __future__ import annotations

from pathlib import Path

from quire_engine.errors import ConfigError

DEFAULT_MODEL_NAME = "quire-demo"
"""The name under which the embedded default is served."""

DEFAULT_MODEL = Path(__file__).parent / "default_model"

# Weights in safetensors only, and what configuration and tokenizers are made of. Python files come along for
# `trust_remote_code`; they are never imported without it.
HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja", "*.py")


def resolve(model: str | None, revision: str | None = None) -> Path:
    """The checkpoint's folder: the embedded default for None, a local folder, or a Hub id, fetched when it is new."""
    if model is None:
        return DEFAULT_MODEL
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ConfigError(f"model {model!r} is a file; name the checkpoint's folder, or a Hub id such as 'org/name'")
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise ConfigError(
            f"model {model!r}: there is no such folder; name an existing folder, or a Hub id such as 'org/name'"
        )
    return _download(model, revision)


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(HUB_FILES)))
    except GatedRepoError as error:
        raise ConfigError(
            f"model {model!r} is gated: accept its terms on the Hub and log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"model {model!r} has no revision {revision!r} on the Hub") from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"model {model!r} is neither a folder here nor a public model on the Hub; "
            "check the spelling, or log in with `hf auth login` when it is private"
        ) from error
    except HFValidationError as error:
        raise ConfigError(f"model {model!r} is neither a folder here nor a valid Hub id") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"model {model!r} is not a folder here, is not in the Hub's cache, and the Hub cannot be reached; "
            "connect, or name a local folder"
        ) from error

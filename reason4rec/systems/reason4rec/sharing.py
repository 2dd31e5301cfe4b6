"""Upload an adapter with its card to the Hugging Face hub, or to the server of its kind that HF_ENDPOINT names."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.run import locks

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.model_card import Trained

CARD = "README.md"  # where the hub looks for it; peft writes one that says nothing
ADVICE = "see the rights of your token and the repository's name, then run the command again"


def push(trained: "Trained", card: Path, repo: str) -> str:
    """Uploads an adapter and its card in one commit, and returns the repository's address.

    A repository that is not there is made, and is private. The adapter is locked meanwhile. InputError where there is
    no token, the repository's name cannot be one, or the hub refuses or is not reached.
    """
    import httpx
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"--push {repo}: no name of a repository ({error})") from error
    if not get_token():
        raise InputError(f"--push {repo}: no token of the hub is here; run: hf auth login, or set HF_TOKEN")
    if holder := locks.lock(trained.path):
        raise InputError(f"{trained.path} is being made by another run ({holder}): wait until it has ended")
    contents = shared_files(trained) | {CARD: card.read_bytes()}
    total = sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in contents.values())
    print(f"uploading {len(contents)} files, {total / 2**20:.1f} MB, to {repo}", flush=True)
    operations = [
        CommitOperationAdd(name, one if isinstance(one, bytes) else str(one)) for name, one in sorted(contents.items())
    ]
    api = HfApi()
    try:
        place = api.create_repo(repo, private=True, exist_ok=True)
        message = f"{trained.name} of Reason4Rec on {trained.dataset}"
        api.create_commit(place.repo_id, operations, commit_message=message)
    except (OSError, httpx.HTTPError, ValueError) as error:
        raise InputError(f"--push {repo}: the hub did not take it ({_reason(error)}); {ADVICE}") from error
    finally:
        locks.unlock(trained.path)
    return str(place)


def shared_files(trained: "Trained") -> dict[str, Path | bytes]:
    """The files of an adapter that its record speaks of, by name; those that name its base by a path name it without.

    What lies below the folder, or begins with a dot, is no part of the adapter.
    """
    found: dict[str, Path | bytes] = {
        path.name: path for path in trained.path.iterdir() if path.is_file() and not path.name.startswith(".")
    }
    for name, key in (("adapter_config.json", "base_model_name_or_path"), ("settings.json", "base_model")):
        if name not in found:
            raise InputError(f"{trained.path}: {name} is missing; train the adapter again")
        content = json.loads(found[name].read_text(encoding="utf-8"))
        content = {one: value for one, value in content.items() if one != "start_from"} | {key: trained.base}
        found[name] = (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
    return found


def _reason(error: Exception) -> str:
    """What the hub itself says of a failure, or else the first line of what the library does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = getattr(error, "server_message", None) or (lines[0] if lines else "")
    return f"{type(error).__name__}: {said[:160]}"

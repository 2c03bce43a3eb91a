"""An exported folder to the Hugging Face Hub: what timm can make again by timm's own function, the rest beside it."""

from __future__ import annotations

from pathlib import Path

from benchmark.backbones.library import library
from benchmark.errors import UsageError, explain
from benchmark.inference import timm_folder
from benchmark.inference.restored import Restored


def push(folder: Path, repository: str, restored: Restored, is_timm: bool) -> str:
    """Where it is then. A repository that is not there is made, and is public, as timm's are.

    The user is who `hf auth login`, or HF_TOKEN, says. Raises `UsageError` where that fails.
    """
    from huggingface_hub import HfApi  # with timm
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    message = f"{restored.folder.name}, by contrastive-benchmark"
    try:
        interface = HfApi(library_name="contrastive-benchmark")
        name = interface.create_repo(repository, exist_ok=True).repo_id
        # First, so that timm finds a card and writes none.
        ignored = ["model.safetensors", "config.json"] if is_timm else None
        interface.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=ignored, commit_message=message)
        if is_timm:
            model, arguments = timm_folder.create(restored)
            library().models.push_to_hf_hub(
                model, name, model_args=arguments, safe_serialization=True, commit_message=message
            )
    except Exception as error:  # a hub, a network and a token have many ways to fail
        raise UsageError(
            f"push={repository}: {explain(error)}; {folder} is whole, and `hf upload {repository} {folder}` sends it"
        ) from error
    return f"{interface.endpoint}/{name}"

"""vLLM as the one that answers, where it is installed: an engine of its own with paged memory and continuous
batching, which also keeps the prefix of an image for its next questions. Needs a GPU.

The engine gets the prompt with one token where the image stands, and the picture; it expands the one and
encodes the other by the checkpoint's own processor. A run's LoRA weights are folded into a checkpoint in a
temporary folder, so that every family works in which vLLM knows the base.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from eval.backends import Asked
from eval.generate import write_merged
from model_adapters.adapter import Adapter


class Vllm:
    """A backend (`backends.Backend`) that hands all questions to vLLM at once, greedy.

    Raises:
        UserError: the run's adapter cannot be loaded.
    """

    def __init__(self, adapter: Adapter, adapter_folder: Path | None) -> None:
        self._vllm = importlib.import_module("vllm")
        self._adapter, folder = adapter, adapter.folder
        if adapter_folder is not None:
            self._merged = tempfile.TemporaryDirectory(prefix="imax-merged-")
            folder = self._merged.name
            write_merged(adapter, adapter_folder, Path(folder), dtype=torch.bfloat16)
            torch.cuda.empty_cache()  # the engine counts what is free
        # InternVL's processor cuts an image into tiles unless told what the checkpoint says about that.
        crop = getattr(adapter.processor.image_processor, "crop_to_patches", None)
        self._engine = self._vllm.LLM(
            model=folder,
            dtype="bfloat16",
            limit_mm_per_prompt={"image": 1},
            mm_processor_kwargs={} if crop is None else {"crop_to_patches": crop},
            trust_remote_code=False,
            seed=0,
        )

    def __call__(self, asked: Sequence[Asked], limits: Sequence[int]) -> Iterator[tuple[int, str]]:
        prompts = [
            {
                "prompt_token_ids": self._adapter.placeholder_ids(entry, picture),
                "multi_modal_data": {"image": self._adapter.frame(picture)},
            }
            for picture, entries in asked
            for entry in entries
        ]
        ends = list(self._adapter.generation["eos_token_id"])
        settings = [
            self._vllm.SamplingParams(temperature=0, max_tokens=limit, stop_token_ids=ends)
            for limit in limits
        ]
        outputs = self._engine.generate(prompts, settings, use_tqdm=False)
        for number, output in enumerate(outputs):  # in the order of the prompts
            yield number, self._adapter.decode(torch.tensor(list(output.outputs[0].token_ids)))

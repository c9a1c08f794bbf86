"""The models by name: where their weights are, under which terms, and what it takes to train them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

TINY = Path(__file__).parent / "tiny" / "checkpoint"

# Bytes of a frozen parameter. nf4 with double quantisation: 4.127 bits (Dettmers et al. 2023, section 3).
BYTES = {"bf16": 2.0, "8bit": 1.0, "4bit": 4.127 / 8}
# Parameters outside the quantised layers (vision tower, embeddings, lm_head), in bfloat16; billions.
UNQUANTISED = 1.3
# LoRA of rank 16 with its gradients and Adam's moments, activations of 2 sequences of 1,000 tokens with
# gradient checkpointing, and the libraries' own; GB. An estimate: measure before buying.
BESIDE = 5.0


class Known(NamedTuple):
    """A model that has a short name.

    Attributes:
        checkpoint: hub id, or a folder.
        billions: parameters.
        licence: of the weights; "?" where no source was found, so ask the authors.
        access: how to get the weights.
    """

    name: str
    checkpoint: str
    family: str
    billions: float
    licence: str
    access: str
    title: str

    def needs(self, kept: str) -> str:
        """GPU memory to train it, kept in bf16 or 4bit, in words."""
        return "none" if self.name == "tiny" else f"{memory_to_train(self.billions, kept):.0f} GB"


MODELS = (
    Known("tiny", str(TINY), "llava", 0.0048, "Apache-2.0", "shipped with this project", "tiny"),
    Known(
        "llava-med",
        "chaoyinshe/llava-med-v1.5-mistral-7b-hf",
        "llava",
        7.6,
        "Apache-2.0; research use",
        "open (a conversion by the community)",
        "LLaVA-Med v1.5",
    ),
    Known(
        "huatuogpt-vision",
        "FreedomIntelligence/HuatuoGPT-Vision-7B-hf",
        "llava",
        7.9,
        "Apache-2.0",
        "open",
        "HuatuoGPT-Vision",
    ),
    Known(
        "radvlm",
        "",
        "llava_onevision",
        8.0,
        "PhysioNet credentialed",
        "download from PhysioNet, then give the folder: --model FOLDER",
        "RadVLM",
    ),
    Known("medvlm-r1", "JZPeterPan/MedVLM-R1", "qwen2_vl", 2.2, "Apache-2.0", "open", "MedVLM-R1"),
    Known("lingshu", "lingshu-medical-mllm/Lingshu-7B", "qwen2_5_vl", 8.3, "MIT", "open", "Lingshu"),
    Known("chexone", "StanfordAIMI/CheXOne", "qwen2_5_vl", 3.8, "?", "open", "CheXOne"),
    Known(
        "nv-reason-cxr",
        "nvidia/NV-Reason-CXR-3B",
        "qwen2_5_vl",
        3.8,
        "?",
        "open",
        "NV-Reason-CXR",
    ),
    Known(
        "medgemma",
        "google/medgemma-1.5-4b-it",
        "gemma3",
        4.3,
        "HAI-DEF",
        "gated: accept the terms on the hub, then log in",
        "MedGemma 1.5",
    ),
    Known("lingshu-i", "lingshu-medical-mllm/Lingshu-I-8B", "internvl", 7.9, "?", "open", "Lingshu-I"),
    Known("medmo", "MBZUAI/MedMO-8B", "qwen3_vl", 8.8, "Apache-2.0", "open", "MedMO 8B"),
    Known("medmo-4b", "MBZUAI/MedMO-4B", "qwen3_vl", 4.4, "Apache-2.0", "open", "MedMO 4B"),
)


def is_tiny(name: str) -> bool:
    """Whether a model is `tiny`, or a folder that `tiny.pretrain` wrote. These train with other settings than
    real ones."""
    return name == "tiny" or (Path(name).expanduser() / "pretraining.json").is_file()


def memory_to_train(billions: float, kept: str) -> float:
    """GB on one GPU to train LoRA on a base of `billions` parameters `kept` in bf16, 8bit or 4bit; an
    estimate."""
    whole = billions if kept == "bf16" else min(billions, UNQUANTISED)
    return whole * BYTES["bf16"] + (billions - whole) * BYTES[kept] + BESIDE


def table() -> str:
    """The models as a Markdown table."""
    lines = [
        "| `--model` | Model | Checkpoint | Family | Parameters | Licence | Access | bf16 | 4 bit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in MODELS[1:]:
        checkpoint = f"`{model.checkpoint}`" if model.checkpoint else "a folder"
        lines.append(
            f"| `{model.name}` | {model.title} | {checkpoint} | `{model.family}` | {model.billions:g} B "
            f"| {model.licence} | {model.access} | {model.needs('bf16')} | {model.needs('4bit')} |"
        )
    return "\n".join(lines)

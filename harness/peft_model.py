"""The model that trains: a base, quantised or not, with everything frozen but LoRA."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import peft
import torch
from transformers import TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from data_recipes.errors import UserError
from harness.arguments import ModelArguments
from harness.start import load_weights
from model_adapters.adapter import Adapter

_NOT_THE_LANGUAGE_MODEL = r"(?!.*language_model).*"  # vision tower, projector, lm_head


def prepare(adapter: Adapter, arguments: ModelArguments, training: TrainingArguments) -> Any:
    """The base model with LoRA on it, ready for the Trainer.

    Raises:
        UserError: the weights cannot be loaded, bitsandbytes is missing, or no module matches
            `--lora_targets`; or what `--start` names does not fit.
    """
    model = with_lora(load_base(adapter, arguments, training), adapter, arguments)
    if arguments.start is not None:
        load_weights(model, arguments.start, adapter)
    return model


def load_base(adapter: Adapter, arguments: ModelArguments, training: TrainingArguments) -> Any:
    """The frozen base: bfloat16 or float16 on a GPU that trains in it, else float32; or quantised.

    Raises:
        UserError: see `prepare`.
    """
    if arguments.quantization == "none":
        return adapter.load_model(dtype=_dtype(training))
    if is_deepspeed_zero3_enabled():
        raise UserError(
            f"--quantization {arguments.quantization} and DeepSpeed's stage 3 exclude each other: use stage 2"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"--quantization {arguments.quantization} needs bitsandbytes: pip install 'imax-harness[engines]'"
        )
    device = {"": training.device.index or 0} if training.device.type == "cuda" else {"": "cpu"}
    model = adapter.load_model(
        dtype=_dtype(training),
        quantization_config=_quantization(arguments.quantization, _dtype(training)),
        device_map=device,
    )
    return peft.prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=training.gradient_checkpointing,
        # The embeddings are frozen: the reentrant kind would find no gradient to start from.
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )


def with_lora(model: Any, adapter: Adapter, arguments: ModelArguments) -> Any:
    """The model with everything frozen but LoRA on its language model, and on the projector if asked for.

    Raises:
        UserError: no module matches `--lora_targets`, or the projector cannot have dropout.
    """
    targets = arguments.lora_targets or adapter.lora_targets
    if not any(re.fullmatch(targets, name) for name, _ in model.named_modules()):
        raise UserError(
            f"--lora_targets {targets!r} matches no module: it must match whole names, such as "
            f"{adapter.lora_targets!r}"
        )
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    if embeddings[0].weight is embeddings[1].weight and any(
        module in embeddings and re.fullmatch(targets, name) for name, module in model.named_modules()
    ):
        raise UserError(
            f"--lora_targets {targets!r} matches the input or output embedding of {adapter.name}, which are "
            "one weight: to merge the adapter of one would change the other. Leave them out"
        )
    bare: list[str] = []  # Gemma's projector is a parameter of its own, in no linear layer
    if arguments.train_projector:
        targets = f"(?:{targets})|(?:{adapter.projector})"
        bare = [
            name
            for name, _ in model.named_parameters()
            if re.fullmatch(adapter.projector, name) and not name.endswith((".weight", ".bias"))
        ]
    if bare and arguments.lora_dropout:
        raise UserError(
            f"--train_projector true needs --lora_dropout 0 with {adapter.family}: its projector is a bare "
            "parameter, for which peft has no dropout"
        )
    config = peft.LoraConfig(
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        target_parameters=bare or None,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"--lora_targets {targets!r}: {' '.join(str(error).split())}") from error


def parameters(model: Any) -> dict[str, int]:
    """How many parameters train, and how many there are; DeepSpeed's stage 3 leaves frozen ones empty."""
    if is_deepspeed_zero3_enabled():
        sizes = [(p.requires_grad, getattr(p, "ds_numel", p.numel())) for p in model.parameters()]
        return {"trainable": sum(n for trains, n in sizes if trains), "all": sum(n for _, n in sizes)}
    return {"trainable": model.num_parameters(only_trainable=True), "all": model.num_parameters()}


def _dtype(training: TrainingArguments) -> torch.dtype:
    if training.device.type == "cuda":
        if training.bf16:
            return torch.bfloat16
        if training.fp16:
            return torch.float16
    return torch.float32


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    """QLoRA's settings (Dettmers et al. 2023) or LLM.int8(), for the language model only: vision towers are
    small, and their quantisation moves boxes."""
    from transformers import BitsAndBytesConfig  # asks for bitsandbytes, which is slow to import

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=[_NOT_THE_LANGUAGE_MODEL])
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[_NOT_THE_LANGUAGE_MODEL],
    )

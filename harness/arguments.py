"""The flags of harness/train.py that are not TrainingArguments, as dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data_recipes.staged import BATCHINGS
from data_recipes.tasks import TASKS
from harness.dataset import SHARINGS
from harness.loss_weights import LOSS_WEIGHTINGS
from model_adapters import block_attention
from taco_probe.dynamics.losses import FISHERS


@dataclass
class DataArguments:
    """What to train on, and where the run lives (`--output_dir`, by default runs/<recipe>)."""

    recipe: str = field(
        default="imax",
        metadata={"help": "Name of a shipped recipe, a recipe file, or the folder of a built mixture. One "
                          "with stages trains them one after another."},
    )  # fmt: skip
    mix: list[str] | None = field(
        default=None,
        metadata={"help": "More mixtures (recipe, file or folder) whose training entries are added. The run "
                          "is scored on the test split of --recipe."},
    )  # fmt: skip
    tasks: list[str] | None = field(
        default=None, metadata={"help": f"Train on these tasks only: {', '.join(TASKS)}. Default: all."}
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longer samples (tokens, image included) are dropped and counted, never cut. "
                          "Default: what the model can take."},
    )  # fmt: skip
    batching: str = field(
        default="",
        metadata={"help": "What is drawn together: 'image', an image with all its entries is a sample of the "
                          "batch sizes; or 'entry'. Default: image where the mixture is image-centric."},
    )  # fmt: skip
    sharing: str = field(
        default="",
        metadata={"help": "'image': entries of an image in one micro-batch share a sequence, so the image is "
                          "encoded once; loss and gradient stay the same. 'none': a sequence each. "
                          "Default: image with --batching image, else none."},
    )  # fmt: skip
    loss_weighting: str = field(
        default="token",
        metadata={"help": "What counts alike in the loss: each 'token', 'entry' or 'task'; 'root' weighs the "
                          "tokens of an image by 1/sqrt(its entries)."},
    )  # fmt: skip
    max_shared_length: int = field(
        default=4096,
        metadata={"help": "Tokens of the longest shared sequence; an image with more is split, and no entry "
                          "is lost."},
    )  # fmt: skip
    row_tokens: int | None = field(
        default=None,
        metadata={"help": "Pack shared sequences of several images into rows of up to so many tokens. "
                          "Default: a row for each, padded."},
    )  # fmt: skip
    attention: str = field(
        default="auto",
        metadata={"help": "Attention of the language model on shared sequences: 'sdpa' with a dense mask; "
                          "'flex', FlexAttention, which skips what no token sees (GPUs); 'eager'; or 'auto', "
                          "the faster of the first two, timed at the start (on CPUs sdpa)."},
    )  # fmt: skip
    image_cache: int = field(default=512, metadata={"help": "Memory for decoded images, in MB a process."})
    threads: int = field(default=0, metadata={"help": "CPU threads a process; 0: share out all cores."})
    schedule_steps: int | None = field(
        default=None,
        metadata={"help": "Length of the learning rate's schedule, where this training is a part of a longer "
                          "one; default: its own steps. Recipes with stages set it."},
    )  # fmt: skip
    schedule_before: int | None = field(
        default=None,
        metadata={"help": "Steps of that schedule that lie before this training. Default: none."},
    )
    stage_cache: str | None = field(
        default=None,
        metadata={"help": "Folder that keeps finished stages of recipes with stages, under all that "
                          "determines them; a stage that is there is not trained again."},
    )  # fmt: skip
    overwrite: bool = field(default=False, metadata={"help": "Start anew: delete the run in --output_dir."})


@dataclass
class ModelArguments:
    """Which model, and which of its weights move."""

    model: str = field(default="tiny", metadata={"help": "'tiny', a hub id, or a local checkpoint folder."})
    start: str | None = field(
        default=None,
        metadata={"help": "Go on from the weights of a saved adapter, a run folder or an adapter folder, "
                          "with a new optimizer and schedule. Its LoRA settings must be those given here."},
    )  # fmt: skip
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA updates."})
    lora_alpha: float = field(default=32, metadata={"help": "LoRA scale: updates are times alpha / r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout on the LoRA inputs, 0 to below 1."})
    lora_targets: str | None = field(
        default=None,
        metadata={"help": "Regular expression that whole module names must match. "
                          "Default: all linear layers of the language model."},
    )  # fmt: skip
    train_projector: bool = field(
        default=False, metadata={"help": "LoRA on the projector between vision tower and language model too."}
    )
    quantization: str = field(
        default="none",
        metadata={"help": "Keep the frozen language model in 8bit or 4bit (QLoRA, nf4); needs the extra "
                          "'engines'."},
    )  # fmt: skip


@dataclass
class DynamicsArguments:
    """What is measured of the optimisation while it goes on: gradients of a fixed probe set."""

    dynamics_steps: str = field(
        default="",
        metadata={"help": "Steps at which to measure, such as 0,10,50 or 0,25%,end (percent of all steps). "
                          "Each costs about three passes over the probe entries, six with affinity. Default: "
                          "none; `imax dynamics measure RUN` measures a finished run."},
    )  # fmt: skip
    dynamics_entries: int = field(
        default=256,
        metadata={"help": "Entries of the probe set, even over tasks. Only runs with equal probe sets can be "
                          "compared."},
    )  # fmt: skip
    dynamics_mixture: str | None = field(
        default=None,
        metadata={"help": "Mixture that probe entries come from: recipe, file or folder. Default: the run's "
                          "own; a decentralised one shares its validation split with the mixture it is "
                          "matched to."},
    )  # fmt: skip
    dynamics_split: str = field(
        default="validation",
        metadata={"help": "Split that probe entries come from: validation, or train (then runs on other "
                          "mixtures cannot be compared)."},
    )  # fmt: skip
    dynamics_seed: int = field(default=0, metadata={"help": "Which probe entries are chosen."})
    dynamics_fisher: str = field(
        default="both",
        metadata={"help": "Gradients at the observed targets ('empirical'), at targets that the model draws "
                          "('true'), or 'both'."},
    )  # fmt: skip
    dynamics_leave_out: str | None = field(
        default=None,
        metadata={"help": "Regular expression of modules (whole names) that train but are not measured. "
                          "Default: whatever trains must be measurable, or the error names it."},
    )  # fmt: skip
    dynamics_affinity: bool = field(
        default=False,
        metadata={"help": "Also try a step along each task's gradient and see what it does to the others."},
    )  # fmt: skip
    dynamics_folder: str | None = field(
        default=None,
        metadata={"help": "Folder for the gradients that wait to be compared, 4 bytes a trained weight and "
                          "entry. Default: the system's temporary folder."},
    )  # fmt: skip
    dynamics_disk: float = field(
        default=0.0,
        metadata={"help": "GB that they may take; what does not fit is measured in several sweeps, each a "
                          "pass of its own. 0: no limit."},
    )  # fmt: skip
    dynamics_sketch: int = field(
        default=0,
        metadata={"help": "For thousands of entries: random sketches of this width instead of exact "
                          "products, without any file. Approximate, and labelled so with its error. "
                          "0: exact."},
    )  # fmt: skip


# --attention, and what transformers calls it
ATTENTIONS = {"sdpa": "sdpa", "flex": block_attention.NAME, "eager": "eager"}
CHOICES: dict[str, Sequence[str]] = {
    "attention": ("auto", *ATTENTIONS),
    "batching": BATCHINGS,
    "sharing": SHARINGS,
    "loss_weighting": LOSS_WEIGHTINGS,
    "quantization": ("none", "8bit", "4bit"),
    "dynamics_fisher": ("both", *FISHERS),
}

"""Fine-tune a model on a mixture. The main job:

    accelerate launch harness/train.py --recipe imax

The same command after a kill goes on from the last whole checkpoint; after the end it says so and does
nothing. A recipe with stages is several trainings, one after another (`stages`). `--help` lists all flags; a
YAML file of the same keys may come first. Also runs as
`python harness/train.py`, `python -m harness.train` and `imax train`. A user's mistake is one line on stderr
and exit code 2; `accelerate launch` adds a traceback of its own and makes it 1, `imax train` does neither.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: Python has put harness/ on the path, where only its parent belongs
    _here = Path(__file__).resolve().parent
    sys.path[:] = [str(_here.parent), *(path for path in sys.path if Path(path or ".").resolve() != _here)]

from harness import be_quiet  # first: it quiets libraries that transformers imports

# isort: split
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
import transformers
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from data_recipes.errors import UserError
from data_recipes.joining import join
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.staged import is_staged
from data_recipes.store import need_pixels, read_mixture
from harness import attention, checkpoints, dynamics, peft_model, provenance, stages, start
from harness.callbacks import KeepDiary, LogToFile, Progress
from harness.config import Settings, as_dict, parse
from harness.dataset import Collator, Images, Samples, training_split
from harness.lengths import budget_steps, samples_of_step
from harness.lineage import refuse_taught
from harness.processes import is_main, say, use_threads
from harness.runs import RunFolder
from harness.trainer import HarnessTrainer
from model_adapters.adapter import Adapter
from model_adapters.registry import load_adapter


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; returns the exit code: 0 when done, 2 on a user's mistake, 130 when interrupted."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if "IMAX_TRAIN_LOCK" in os.environ:  # set by a study
            from harness.study.locks import keep  # needs flock, which not every system has

            keep()
        settings = parse(arguments)
        if is_staged(settings.data.recipe):
            stages.run(settings, arguments, train)
        else:
            train(settings, arguments)
    except UserError as error:
        # A data loader's worker process wraps the message in its traceback; the last line is the message.
        say(f"error: {str(error).strip().splitlines()[-1]}")
        return 2
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from the last checkpoint")
        return 130
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def train(settings: Settings, arguments: Sequence[str] = (), stage: str = "") -> RunFolder:
    """One training: from settings to a finished run folder.

    Args:
        stage: what to call it in messages where it is one of several.

    Raises:
        UserError: the recipe, model or data cannot be used, or the output folder holds something else.
    """
    use_threads(settings.data.threads)
    be_quiet()
    use_one_gpu(settings.training)
    data, training = settings.data, settings.training
    adapter = load_adapter(settings.model.model)
    with training.main_process_first(desc="build the mixture"):
        places = [mixture_folder(name, progress=is_main()) for name in (data.recipe, *(data.mix or ()))]
        mixtures = [read_mixture(place) for place in places]
    for name, one in zip((data.recipe, *(data.mix or ())), mixtures, strict=True):
        need_pixels(one, name)
    folder, mixture = places[0], mixtures[0]
    joined = join(mixture, list(zip(places[1:], mixtures[1:], strict=True)))
    take_budget(settings, mixture)
    facts = {
        "mixture": str(folder.resolve()),
        "mixture_hash": mixture.meta["mixture_hash"],
        "model_hash": provenance.hash_weights(adapter.folder),
        "world_size": training.world_size,
    }
    if joined.added:
        facts["mix_hashes"] = [other["mixture_hash"] for other in joined.added]
    if settings.model.start is not None:
        facts["start_hash"] = provenance.hash_weights(str(start.adapter_folder(settings.model.start)))
        with training.main_process_first(desc="look up what the start has learnt from"):
            start_from, called = Path(settings.model.start), f"mixture {data.recipe}"
            refuse_taught(start_from, called, folder, joined.mixture, lenient=True)

    run = RunFolder(Path(training.output_dir))
    with training.main_process_first(desc="claim the run folder"):
        if is_main():
            run.claim(as_dict(settings) | facts, overwrite=settings.data.overwrite)
    if run.finished():
        say(f"{run.path} is finished: nothing to do (--overwrite starts anew)")
        return run
    last = resume_point(run)
    step = checkpoints.step_of(last) if last else 0

    transformers.set_seed(training.seed)
    model = peft_model.prepare(adapter, settings.model, training)
    limit = data.max_length or longest_input(model.config)
    images = Images(folder, adapter, megabytes=data.image_cache, elsewhere=joined.elsewhere)
    drawn: dict[str, Any] = {
        "batching": data.batching,
        "tasks": data.tasks,
        "max_length": limit,
        "max_shared_length": data.max_shared_length,
    }
    dataset = training_split(joined.mixture, images, adapter, **drawn)
    held_out = Samples(mixture, "validation", images, adapter, **drawn)
    parameters = peft_model.parameters(model)

    say(
        f"{run.path}: {adapter.name} on {' + '.join((data.recipe, *(data.mix or ())))}, "
        f"{dataset.entries} training entries of "
        f"{len(dataset.tasks())} tasks, {parameters['trainable']:,} of {parameters['all']:,} parameters "
        f"train, on {training.device}"
    )
    say(step_in_words(dataset, settings))
    if dataset.dropped:
        say(f"{dataset.dropped} entries are longer than {limit} tokens and are left out; {dataset.reason}")
    if settings.model.start and not last:
        say(f"weights to start from: {settings.model.start}")
    if last:
        say(f"going on from step {step}")

    collate = Collator(
        adapter,
        sharing=data.sharing,
        max_shared_length=data.max_shared_length,
        row_tokens=data.row_tokens,
    )
    first = [dataset[index] for index in range(min(training.per_device_train_batch_size, len(dataset)))]
    chosen = attention.settle(model, adapter, data.attention, collate(first), training.device)

    callbacks: list[Any] = [LogToFile(run), Progress(stage)]
    watch = None
    if watched := settings.dynamics.dynamics_steps:
        probed = None
        if is_main():
            probed = dynamics.prepare(settings.dynamics, mixture, folder, adapter, training.device)
            say(f"dynamics: {len(probed.probe.pairs)} probe entries, at steps {watched}")
        watch = dynamics.Dynamics(run, watched, probed, dynamics.described(settings, facts))
        callbacks.append(watch)
    diary = None
    if is_main():
        run.cut_log(step)
        seeds = {"seed": training.seed, "data_seed": training.data_seed}
        more = {
            "parameters": parameters,
            "dropped_too_long": dataset.dropped,
            "image_backend": adapter.image_backend,
        } | chosen
        if joined.added:
            more["mix"] = joined.added
        machine = provenance.machine(training.device)
        diary = provenance.Diary(run, facts | seeds | more | {"machine": machine}, argv=arguments, step=step)
        callbacks.append(KeepDiary(diary))
    training.output_dir = str(run.checkpoints)
    trainer = HarnessTrainer(
        model=model,
        args=training,
        train_dataset=dataset,
        eval_dataset=held_out,
        data_collator=collate,
        adapter=adapter,
        weighting=data.loss_weighting,
        schedule=(data.schedule_before or 0, data.schedule_steps or 0),
        callbacks=callbacks,
    )
    if watch is not None:
        watch.trainer = trainer
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    fit(trainer, last)
    save(trainer, run, adapter)
    if diary is not None:
        diary.note(trainer.state.global_step, finished=True)
    summarise(run, stage)
    return run


def use_one_gpu(training: transformers.TrainingArguments) -> None:
    """One GPU a process. The Trainer would spread batches over all visible ones by torch's DataParallel,
    which cuts shared sequences apart."""
    if training.n_gpu > 1:
        say(f"{training.n_gpu} GPUs are visible and one is used: accelerate launch --num_processes uses more")
        training._n_gpu = 1


def take_budget(settings: Settings, mixture: Mixture) -> None:
    """A mixture to be compared at equal steps says how many entries an epoch has; the user's word wins."""
    steps = budget_steps(settings, mixture)
    if steps and not {"max_steps", "num_train_epochs"} & settings.chosen.keys():
        settings.training.max_steps = steps


def step_in_words(dataset: Samples, settings: Settings) -> str:
    """What an optimizer step sees, such as "a step: 2 images, about 15 entries; ..."."""
    data, samples = settings.data, samples_of_step(settings.training)
    drawn = f"{samples} entries"
    if data.batching == "image":
        drawn = f"{samples} images, about {samples * dataset.entries / len(dataset):.0f} entries"
    shared = "entries of an image share a sequence" if data.sharing == "image" else "a sequence each"
    return f"a step: {drawn}; {shared}; loss weighting: {data.loss_weighting}"


def resume_point(run: RunFolder) -> Path | None:
    """The checkpoint to go on from; torn ones are deleted."""
    if is_main() and run.checkpoints.is_dir() and (torn := checkpoints.discard_torn(run.checkpoints)):
        say(f"{torn} incomplete checkpoint(s) deleted")
    return checkpoints.last_whole(run.checkpoints)


def longest_input(config: Any) -> int | None:
    """Positions the language model was made for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None


def fit(trainer: HarnessTrainer, last: Path | None) -> None:
    """Trains from the checkpoint `last`, or from the start."""
    if last is not None:
        state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json"))
        if state.global_step >= state.max_steps:  # killed after the last step; train() would add one
            trainer._load_from_checkpoint(str(last))
            trainer.state = state
            return
    trainer.train(resume_from_checkpoint=str(last) if last else None)


def save(trainer: HarnessTrainer, run: RunFolder, adapter: Adapter) -> None:
    """Writes adapter/, which `PeftModel.from_pretrained` reads; whole or not at all."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    # What the user called the model, rather than where it lies on this machine.
    model.peft_config["default"].base_model_name_or_path = adapter.name
    partial = run.path / "adapter.partial"
    with gathered(model):
        if not is_main():
            return
        for old in (partial, run.adapter):  # of a run killed right here
            shutil.rmtree(old, ignore_errors=True)
        model.save_pretrained(str(partial), safe_serialization=True, save_embedding_layers=False)
        partial.replace(run.adapter)


def gathered(model: torch.nn.Module) -> AbstractContextManager[Any]:
    """Inside, each process holds the whole of what trains; DeepSpeed's stage 3 keeps it in shards."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return cast(AbstractContextManager[Any], deepspeed.zero.GatheredParameters(trained))


def summarise(run: RunFolder, stage: str = "") -> None:
    """Prints how it ended and, after a training that is no stage, where things are and what to do next."""
    lines, wall = run.log(), run.provenance()["wall_seconds"]
    if lines:
        end = lines[-1]
        losses = "  ".join(
            f"{key.removeprefix('loss_')} {end[key]:.3f}" for key in end if key.startswith("loss_")
        )
        fed, unshared = (sum(line.get(key, 0) for line in lines) for key in ("tokens", "tokens_unshared"))
        if fed < unshared:
            say(f"sharing: {fed:,.0f} tokens instead of {unshared:,.0f}, {1 - fed / unshared:.0%} saved")
        took = f"{end['step']} steps in {wall:.0f} s, last loss {end['loss']:.4f}"
        say(f"{stage or 'done'}: {took}\n  by task: {losses}")
    if not stage:
        say(f"  weights: {run.adapter}   log: {run.log_file}\n  next: imax eval {run.path}")


if __name__ == "__main__":
    sys.exit(main())

"""No annotated image may be held out anywhere: by patient, by image id and by the pixels of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, Mixture
from data_recipes.thumbnails import Mark, read_marks


def check_images(
    chosen: Iterable[Image], marks: Mapping[str, Mark], held_out: Mixture, folder: Path, what: str
) -> None:
    """Holds the chosen images to what a mixture holds out.

    Args:
        chosen: the images to annotate; marks: what each is known by, by image id.
        held_out: the mixture, in `folder`, whose validation and test images must stay untouched.
        what: how to call it in the message.

    Raises:
        UserError: a chosen image is of a patient that is held out, is itself held out, or has the pixels of
            one that is.
    """
    held = [image for image in held_out.images if image.split != "train"]
    patients = {image.patient_id: image for image in held}
    ids = {image.image_id: image for image in held}
    pixels = {mark.digest: ids[name] for name, mark in read_marks(folder, held).items() if mark.digest}
    for image in chosen:
        for found, same in (
            (ids.get(image.image_id), f"image {image.image_id}"),
            (patients.get(image.patient_id), f"patient {image.patient_id} of image {image.image_id}"),
            (pixels.get(marks[image.image_id].digest), f"image {image.image_id}, pixel by pixel,"),
        ):
            if found:
                raise UserError(
                    f"leakage: {same} is in the {found.split} split of {what} (image {found.image_id}): "
                    "annotate a mixture that does not hold it"
                )


def check_entries(entries: Iterable[Entry], annotated: Mapping[str, Image]) -> None:
    """Holds pseudo-entries to the images that were chosen.

    Raises:
        UserError: an entry is about another image, or one that is not for training.
    """
    for entry in entries:
        image = annotated.get(entry.image_id)
        if image is None or image.split != "train":
            raise UserError(
                f"leakage: pseudo-entry {entry.entry_id} is about image {entry.image_id}, which is not one "
                "of the training images that were chosen"
            )

"""A model that answers by rote, with the adapter it needs: generation without weights."""

from types import SimpleNamespace

import torch

from data_recipes.records import fill_slots
from eval.predictions import CanonicalBoxes


class FakeAdapter:
    """Ids are the characters of the prompt; the model gets them back."""

    name = family = folder = "fake"
    codec = CanonicalBoxes()
    processor = SimpleNamespace(tokenizer=lambda texts: {"input_ids": [text.split() for text in texts]})

    def __init__(self):
        self.generation = {"do_sample": False}
        self.images = []

    def see(self, image):
        self.images.append(image.getextrema())
        return {"pixel_values": torch.zeros(1, 3, 2, 2)}

    def encode(self, entry, image, *, with_target, vision=None):
        boxes = [self.codec.write(box, image.width, image.height) for box in entry.prompt_boxes]
        ids = torch.tensor([ord(c) for c in fill_slots(entry.prompt, boxes)])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **vision}

    def collate(self, features, *, padding_side):
        assert padding_side == "left"
        ids = [f["input_ids"] for f in features]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_side=padding_side)
        return {"input_ids": padded, "pixel_values": torch.cat([f["pixel_values"] for f in features])}

    def decode(self, ids):
        return "".join(chr(i) for i in ids if i).strip()


class FakeModel:
    """Answers with the prompt in upper case. `dies_after`: a number of batches, then it is killed."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, dies_after=None):
        self.batches, self.limits, self.dies_after = [], [], dies_after

    def generate(self, input_ids, pixel_values, max_new_tokens, do_sample):
        if len(self.batches) == self.dies_after:
            raise KeyboardInterrupt
        self.batches.append(len(input_ids))
        self.limits.append(max_new_tokens)
        assert len(pixel_values) == len(input_ids)
        upper = torch.where((input_ids >= 97) & (input_ids <= 122), input_ids - 32, input_ids)
        return torch.cat([input_ids, upper], dim=1)

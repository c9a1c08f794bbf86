"""One that answers by rote, and what generation needs of an adapter beside it: generation without weights."""

from types import SimpleNamespace

from data_recipes.records import fill_slots
from eval.predictions import CanonicalBoxes


class FakeAdapter:
    """For `token_limits`: words are tokens."""

    codec = CanonicalBoxes()
    processor = SimpleNamespace(tokenizer=lambda texts: {"input_ids": [text.split() for text in texts]})


class FakeBackend:
    """Answers with the prompt in upper case, last question first. `dies_after` so many answers, it is
    killed."""

    def __init__(self, dies_after=None):
        self.codec, self.dies_after = CanonicalBoxes(), dies_after
        self.batches, self.limits, self.greys = [], {}, []
        self.answered = 0

    def __call__(self, asked, limits):
        self.batches.append([[entry.entry_id for entry in one.entries] for one in asked])
        self.greys += [one.picture.getextrema() for one in asked]
        questions = [(one.picture, entry) for one in asked for entry in one.entries]
        for number, (picture, entry) in reversed(list(enumerate(questions))):
            if self.answered == self.dies_after:
                raise KeyboardInterrupt
            self.answered += 1
            self.limits[entry.entry_id] = limits[number]
            boxes = [self.codec.write(box, picture.width, picture.height) for box in entry.prompt_boxes]
            yield number, fill_slots(entry.prompt, boxes).upper()

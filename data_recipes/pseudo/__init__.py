"""Pseudo-annotation: a trained model answers, about the training images of a decentralised mixture, the tasks
that they lack; answers that pass filters make an image-centric mixture. No torch here: who answers is the
caller's affair (`harness.annotate`)."""

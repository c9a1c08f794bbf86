"""The embedded default model: a LLaVA of a few million parameters, its tokenizer, and the script that makes
both."""

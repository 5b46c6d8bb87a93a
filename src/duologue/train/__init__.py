"""Training: codecs, language models, and what they share."""

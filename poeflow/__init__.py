"""poeflow: make for prompts. Declarative YAML flows around Poe's chat completions API."""

__version__ = "0.1.0"

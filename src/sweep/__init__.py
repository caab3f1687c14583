"""Compare fine-tuning strategies of transformer text classifiers."""

__version__ = "0.1.0"

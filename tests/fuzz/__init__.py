"""Coverage-guided fuzzing of everything that parses what a peer sends; see ``make fuzz``."""

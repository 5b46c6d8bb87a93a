"""The one error type for mistakes that the user can mend."""


class UserError(Exception):
    """A mistake in what the user gave: it ends a command with one line and exit status 2, never with a traceback.

    Args:
        problem: what is wrong, with the offending value in it ("sample rate 0 is not positive").
        place: where it was found: a file, a field of a file, an option ("talk.wav", "--mode").
        mend: what to do about it ("use one of compat, compat-2025, corrected").
    """

    def __init__(self, problem: str, *, place: object = "", mend: str = "") -> None:
        self.problem = problem
        self.place = str(place)
        self.mend = mend
        line = f"{self.place}: {problem}" if self.place else problem
        super().__init__(" ".join((f"{line}; {mend}" if mend else line).split()))

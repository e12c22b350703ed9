"""A progress bar for each epoch: loss, errors, images a second and the time left."""

import time
from typing import Any, Optional

from tqdm import tqdm


class ProgressBar:
    """A bar for each epoch, on stderr where that is a terminal. Nothing is shown unless `shown`."""

    def __init__(self, epochs: int, total_steps: int, batch_size: int, shown: bool):
        self.epochs, self.total_steps, self.batch_size = epochs, total_steps, batch_size
        self.disable = None if shown else True  # None: tqdm checks whether there is a terminal
        self.bar: Optional[tqdm] = None
        self.shown_at, self.shown_step = 0.0, 0

    def start_epoch(self, epoch: int, first: int, steps: int, done: int) -> None:
        """Start the bar of an epoch of `steps` steps, `first` of which are done; `done`: finished steps of the run."""
        self.close()
        self.bar = tqdm(
            total=steps,
            initial=first,
            desc=f"epoch {epoch}/{self.epochs}",
            leave=False,
            disable=self.disable,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n}/{total}{postfix}",
        )
        self.shown_at, self.shown_step = time.monotonic(), done

    def step(self) -> None:
        """Advance the bar by a step."""
        assert self.bar is not None, "start_epoch first"
        self.bar.update()

    def show(self, text: str, done: int) -> None:
        """Show `text`, the speed since the last call, and the time left after `done` steps of the run."""
        assert self.bar is not None, "start_epoch first"
        now, steps = time.monotonic(), done - self.shown_step
        seconds = max(now - self.shown_at, 1e-9)
        left = (self.total_steps - done) * seconds / steps
        self.shown_at, self.shown_step = now, done
        self.bar.set_postfix_str(
            f"{text}, {steps * self.batch_size / seconds:.0f} images/s, {tqdm.format_interval(left)} left"
        )

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

"""What a run's user sees while it trains: a bar an epoch with loss, errors, images a second and the time left."""

import time

from tqdm import tqdm


class Progress:
    """A bar an epoch, on stderr where that is a terminal. Nothing where it is not `shown`."""

    def __init__(self, epochs: int, total_steps: int, batch_size: int, shown: bool):
        self.epochs, self.total_steps, self.batch_size = epochs, total_steps, batch_size
        self.disable = None if shown else True  # None: tqdm asks whether there is a terminal
        self.bar = None

    def begin(self, epoch: int, first: int, steps: int, done: int) -> None:
        """An epoch of so many steps, of which the first `first` are done; `done` steps are of the whole run."""
        self.close()
        self.bar = tqdm(
            total=steps,
            initial=first,
            desc=f"epoch {epoch}/{self.epochs}",
            leave=False,
            disable=self.disable,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n}/{total}{postfix}",
        )
        self.looked, self.done = time.monotonic(), done

    def step(self) -> None:
        self.bar.update()

    def show(self, text: str, done: int) -> None:
        """The figures so far; the rate is that of the steps since the last time."""
        now, steps = time.monotonic(), done - self.done
        seconds = max(now - self.looked, 1e-9)
        left = (self.total_steps - done) * seconds / steps
        self.looked, self.done = now, done
        self.bar.set_postfix_str(
            f"{text}, {steps * self.batch_size / seconds:.0f} images/s, {tqdm.format_interval(left)} left"
        )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

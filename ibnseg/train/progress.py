"""What a person sees of a run: one bar on a terminal, a few lines elsewhere."""

import atexit
import sys
import time
from datetime import timedelta

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS
from rich.console import Console
from rich.progress import Progress

from .. import progress
from ..measure import selection
from ..text import LINE, clean, tell

_LONG = 600  # seconds without a line, at most


@HOOKS.register_module()
class ProgressHook(Hook):
    """Iterations, loss, rate and time left, and how far each evaluation is.

    Off a terminal: ten lines a run, more of a long one, and some for an evaluation that takes
    long.
    """

    priority = 'VERY_LOW'
    bar: Progress | None = None

    def before_train(self, runner) -> None:
        self._first, self._began = runner.iter, time.perf_counter()
        self._said = self._began
        self._open()
        if self.bar is not None:
            first = dict(total=runner.max_iters, completed=runner.iter)
            self.task = self.bar.add_task('train', **first, note='')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done, total = runner.iter + 1, runner.max_iters
        seconds = (time.perf_counter() - self._began) / (done - self._first)
        loss = float(outputs['loss'])
        rate = f'{1 / seconds:.1f} it/s' if seconds < 1 else f'{seconds:.1f} s/it'
        if self.bar is not None:
            self.bar.update(self.task, completed=done, note=f'loss {loss:.3f}  {rate}')
        elif (
            done in (1, total)
            or done * 10 // total > (done - 1) * 10 // total
            or time.perf_counter() - self._said > _LONG
        ):
            self._said = time.perf_counter()
            left = timedelta(seconds=round(seconds * (total - done)))
            self.say(f'train {done}/{total}  loss {loss:.3f}  {rate}  left {left}')

    def after_train(self, runner) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    after_test = after_train

    def before_val(self, runner) -> None:
        self._val_began = time.perf_counter()
        self._begin('validation', len(runner.val_dataloader))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._advance(batch_idx + 1)

    def after_val_epoch(self, runner, metrics=None) -> None:
        rule = selection.implied(runner.cfg.source, runner.cfg.val_dataloader.dataset.domains)
        name = 'validation' if runner.cfg.get('fine_tuned') else rule.name
        self.say(f'{name} at {runner.iter}: mIoU {metrics["mIoU"]:.1f}')

    def say(self, text: str) -> None:
        """Show a line, above the bar where there is one."""
        if self.bar is not None:
            self.bar.console.print(clean(text, LINE), markup=False)
        elif is_main_process():
            # Not sys.stdout: what other packages print is caught there (ibnseg.plugins.training).
            tell(text, file=sys.__stdout__, flush=True)

    def after_val(self, runner) -> None:
        self._began += time.perf_counter() - self._val_began  # the rate is of training
        if self.bar is not None:
            self.bar.remove_task(self._task)

    def before_test(self, runner) -> None:
        self._open()
        self._begin('measure', len(runner.test_dataloader))

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._advance(batch_idx + 1)

    def _begin(self, title: str, total: int) -> None:
        """Show an evaluation, below the training where there is one."""
        self._total, self._lines = total, progress.Lines(title, self.say)
        if self.bar is not None:
            self._task = self.bar.add_task(title, total=total, note='')

    def _advance(self, done: int) -> None:
        if self.bar is not None:
            self.bar.update(self._task, completed=done)
        else:
            self._lines(done, self._total)

    def _open(self) -> None:
        if is_main_process() and sys.__stdout__.isatty():
            self.bar = progress.view(
                console=Console(file=sys.__stdout__, highlight=False),
                redirect_stdout=sys.stdout is sys.__stdout__,
            )
            self.bar.start()
            atexit.register(self.bar.stop)  # an error must not leave the cursor hidden

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


@HOOKS.register_module()
class ProgressHook(Hook):
    """Iterations, loss, rate and time left. Off a terminal: about ten lines a run."""

    priority = 'VERY_LOW'
    bar: Progress | None = None

    def before_train(self, runner) -> None:
        self._first, self._began = runner.iter, time.perf_counter()
        self._open('train', runner.max_iters, runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done, total = runner.iter + 1, runner.max_iters
        seconds = (time.perf_counter() - self._began) / (done - self._first)
        loss = float(outputs['loss'])
        rate = f'{1 / seconds:.1f} it/s' if seconds < 1 else f'{seconds:.1f} s/it'
        if self.bar is not None:
            self.bar.update(self.task, completed=done, note=f'loss {loss:.3f}  {rate}')
        elif done in (1, total) or done * 10 // total > (done - 1) * 10 // total:
            left = timedelta(seconds=round(seconds * (total - done)))
            self.say(f'train {done}/{total}  loss {loss:.3f}  {rate}  left {left}')

    def after_train(self, runner) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    after_test = after_train

    def before_val(self, runner) -> None:
        self._val_began = time.perf_counter()

    def after_val_epoch(self, runner, metrics=None) -> None:
        rule = selection.implied(runner.cfg.source, runner.cfg.val_dataloader.dataset.domains)
        name = 'validation' if runner.cfg.get('fine_tuned') else rule.name
        self.say(f'{name} at {runner.iter}: mIoU {metrics["mIoU"]:.1f}')

    def say(self, text: str) -> None:
        """Show a line, above the bar where there is one."""
        if self.bar is not None:
            self.bar.console.print(text)
        elif is_main_process():
            # Not sys.stdout: what other packages print is caught there (ibnseg.plugins.training).
            print(text, file=sys.__stdout__, flush=True)

    def after_val(self, runner) -> None:
        self._began += time.perf_counter() - self._val_began  # the rate is of training

    def before_test(self, runner) -> None:
        self._open('measure', len(runner.test_dataloader), 0)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=batch_idx + 1)

    def _open(self, title: str, total: int, done: int) -> None:
        if is_main_process() and sys.__stdout__.isatty():
            self.bar = progress.view(
                console=Console(file=sys.__stdout__, highlight=False),
                redirect_stdout=sys.stdout is sys.__stdout__,
            )
            self.bar.start()
            atexit.register(self.bar.stop)  # an error must not leave the cursor hidden
            self.task = self.bar.add_task(title, total=total, completed=done, note='')

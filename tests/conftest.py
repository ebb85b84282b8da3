import faulthandler
import logging
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from ibnseg import command

#: Reference values and weights that lie beside the checkout, not in it.
SHARED = Path(__file__).parents[2] / 'shared'


def pytest_configure():
    # What a shell starts in the background ignores Ctrl-C, and so does all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # small tensors: on busy cores more threads are ten times slower


#: Seconds after which a test is taken to hang: many times those of the longest on a busy machine.
HANGS = 900


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Fail a test that hangs, with what runs then; else the suite would say nothing for hours."""

    def fail(*_):
        running = ''
        if shutil.which('ps'):
            what = ['ps', '-eo', 'pid,ppid,stat,etimes,wchan:20,args', '--forest', '-ww']
            running = subprocess.run(what, capture_output=True, text=True).stdout
        pytest.fail(f'{item.nodeid} has not ended after {HANGS} seconds\n{running}')

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANGS)
    faulthandler.dump_traceback_later(HANGS + 60, exit=True)  # where Python's handlers do not run
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def shared():
    """`shared('golden', 'recipe.py')`: the path; skips, saying so, where it is absent."""

    def find(*parts: str) -> Path:
        path = SHARED.joinpath(*parts)
        if not path.exists():
            pytest.skip(f'{path} is absent: nothing to compare with')
        return path

    return find


@pytest.fixture(scope='session')
def drawn(tmp_path_factory):
    """A data root with every dataset, tiny. Not to be changed."""
    import odd_data

    root = tmp_path_factory.mktemp('drawn')
    odd_data.draw(root)
    return root


@pytest.fixture(scope='module')
def mended(drawn, tmp_path_factory):
    """name -> a `Target`, the dataset whole."""
    import odd_data

    return odd_data.Copies(drawn, tmp_path_factory.mktemp('mended'))


@pytest.fixture(autouse=True)
def same_numbers_alone_and_in_the_suite():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def what_is_said_once_is_said_in_each_test():
    command.say_once.cache_clear()


@pytest.fixture(autouse=True)
def log_files_end_with_their_test():
    log = logging.getLogger('py.warnings')
    log.handlers.clear()  # those of a fixture's run, too
    yield
    log.handlers.clear()


# Files of real training runs come first: else one process runs them alone at the end.
LONG = ('test_tools.py', 'test_signals.py', 'test_resume.py', 'test_sweep.py', 'test_finetune.py',
        'test_predictions.py', 'test_imagenet.py',
        'test_cluster.py', 'test_batch.py')  # fmt: skip
# What builds every network or config, reads whole datasets, or starts a process for each case.
WIDE = ('test_dialects.py', 'test_family.py', 'test_golden.py', 'test_hub.py', 'test_configs.py',
        'test_resnet.py', 'test_sampling.py', 'test_stack.py', 'test_predict.py',
        'test_compile.py', 'test_protocols.py', 'test_audit.py', 'test_keys.py',
        'test_predict_mmseg.py', 'test_untrusted.py', 'test_page.py',
        'test_analyze.py', 'test_odd_data.py', 'test_inference.py',
        'test_mmseg_tools.py', 'test_packages.py', 'test_plain_mmseg.py',
        'test_wheel.py', 'test_own.py', 'test_export.py', 'test_demo_page.py',
        'test_engines.py', 'test_foreign.py', 'test_machine.py', 'test_fuzz.py')  # fmt: skip

# What no MM package takes part in, or only as in files that are not listed.
ONE_STACK = ('test_advstyle.py', 'test_audit.py', 'test_average.py', 'test_bootstrap.py',
             'test_cache.py', 'test_claim.py', 'test_claims.py', 'test_cluster.py',
             'test_compile.py', 'test_corruptions.py', 'test_curves.py', 'test_dialects.py',
             'test_domains.py', 'test_ending.py', 'test_engines.py', 'test_family.py',
             'test_finetune.py', 'test_foreign.py', 'test_fuzz.py', 'test_gallery.py',
             'test_hub.py', 'test_labels.py', 'test_listing.py', 'test_machine.py',
             'test_matrices.py', 'test_method_option.py', 'test_methods_docs.py',
             'test_methods_runs.py', 'test_miniature.py', 'test_named.py', 'test_norms.py',
             'test_odd_data.py', 'test_own.py', 'test_packages.py', 'test_page.py',
             'test_pairs.py', 'test_passes.py', 'test_pictures.py', 'test_predictions.py',
             'test_progress.py', 'test_published.py', 'test_ranking.py', 'test_records.py',
             'test_report.py', 'test_report_certainty.py', 'test_sampling.py', 'test_selection.py',
             'test_semantic.py', 'test_shade.py', 'test_signals.py', 'test_site.py',
             'test_splits.py', 'test_swad.py', 'test_sweep.py', 'test_switching.py',
             'test_units.py', 'test_verdict.py', 'test_wheel.py', 'test_wildnet.py')  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        if item.path.name in ONE_STACK:
            item.add_marker('one_stack')  # `make test-openmmlab` leaves it out
        if item.path.name not in (*LONG, *WIDE) and item.path.parent.name == 'tests':
            item.add_marker('fast')  # `make test-fast`

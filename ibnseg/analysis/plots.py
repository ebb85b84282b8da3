"""Figures of the analyses. matplotlib is imported where one is drawn, and without a display."""

from pathlib import Path
from typing import Any

from .. import disk

#: Of Okabe & Ito: told apart by colour-blind readers, and in grey by markers and hatches.
COLOURS = ('#000000', '#E69F00', '#0072B2', '#009E73', '#CC79A7', '#D55E00', '#56B4E9')
_SHADES = ('#BBBBBB', *COLOURS[1:])  # a black bar would outshine the others
MARKERS = 'osD^vP*'


def _axes(width: float, height: float, count: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout='constrained', dpi=110)
    axes = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    for one in axes:
        one.spines[['top', 'right']].set_visible(False)
        one.grid(axis='y', color='0.9')
        one.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    disk.write_by(path, lambda file: figure.savefig(file, format='png'))


def divergence(found: dict[str, Any], path: Path) -> None:
    """Draw what `ibnseg.analysis.divergence.run` measured: a line a network, over its depth."""
    networks = found['networks']
    names = list(dict.fromkeys(row['point'] for one in networks for row in one['points']))
    drawn: list[float] = []
    figure, (axes,) = _axes(max(7.4, 0.3 * len(names) + 3.5), 3.6)
    for i, one in enumerate(networks):
        rows = {row['point']: row for row in one['points']}
        at = [k for k, name in enumerate(names) if name in rows]
        colour, marker = COLOURS[i % 7], MARKERS[i % 7]
        mean, median = ([rows[names[k]][key] for k in at] for key in ('divergence', 'median'))
        axes.plot(at, mean, marker=marker, ms=5, color=colour, label=plain(one['name']))
        axes.plot(at, median, '--', lw=0.8, color=colour)
        after = [
            (k, value) for k, value in zip(at, mean, strict=True) if rows[names[k]]['after_in']
        ]
        for place in after:
            axes.plot(*place, 'o', ms=12, mfc='none', mec=colour)
        drawn += [value for value in (*mean, *median) if value is not None]
    axes.plot([], [], 'o', ms=12, mfc='none', mec='0.4', label='right after an InstanceNorm')
    axes.plot([], [], '--', lw=0.8, color='0.4', label='median over the channels')
    axes.axhline(found['of_chance'], color='0.5', ls=':', lw=1, label='two samples of one Gaussian')
    if min(drawn) > 0 and max(drawn) > 30 * min(drawn):
        axes.set_yscale('log')
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(names)), names, rotation=45, ha='right', fontsize=8)
    axes.set_ylabel('feature divergence D')
    axes.set_title(plain(found['compared']), fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
    _save(figure, path)


def appearance(found: dict[str, Any], path: Path) -> None:
    """Draw what `ibnseg.analysis.robustness.run` measured: bars by change, one a network."""
    networks = found['networks']
    results = [(one['name'], result) for one in networks for result in one['results']]
    targets = list(dict.fromkeys((r['target'], r['measure']) for _, r in results))
    changes = list(dict.fromkeys(r['change'] for _, r in results))
    figure, every = _axes(max(7.4, 1.1 * len(changes) + 2), 2.9 * len(targets), len(targets))
    width = 0.8 / len(networks)
    for axes, target in zip(every, targets, strict=True):
        for i, one in enumerate(networks):
            scores = {
                r['change']: r['score']
                for r in one['results']
                if (r['target'], r['measure']) == target
            }
            at = [changes.index(c) + (i - (len(networks) - 1) / 2) * width for c in scores]
            bars = axes.bar(
                at, list(scores.values()), 0.92 * width, color=_SHADES[i % 7],
                edgecolor='black', lw=0.4, label=plain(one['name']),
            )  # fmt: skip
            axes.bar_label(bars, fmt='%.1f', fontsize=7, padding=1)
        axes.set_title(plain(target[0]), fontsize=10)
        axes.set_ylabel(f'{target[1]} in %')
        axes.set_xticks(range(len(changes)), map(plain, changes))
        axes.tick_params(labelbottom=True)
    every[0].legend(frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
    _save(figure, path)


def corruptions(found: dict[str, Any], path: Path) -> None:
    """Draw what `ibnseg.analysis.corruptions.run` measured: mIoU by severity, 0 being clean."""
    from matplotlib.figure import Figure

    networks, severities = found['networks'], found['severities']
    targets = list(networks[0]['summary'])
    names = list(networks[0]['summary'][targets[0]]['curves'])
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    size = 2.1 * columns + 1.6, 1.7 * rows * len(targets) + 0.4
    figure = Figure((max(size[0], 5), max(size[1], 2.6)), layout='constrained', dpi=110)
    parts = [*figure.subfigures(len(targets), 1, squeeze=False)[:, 0]]
    for part, target in zip(parts, targets, strict=True):
        part.suptitle(plain(target), fontsize=10)
        part.supylabel('mIoU in %', fontsize=9)
        every = part.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, name in zip(every, names, strict=False):
            axes.set_title(name.replace('_', ' '), fontsize=8)
            axes.spines[['top', 'right']].set_visible(False)
            axes.grid(axis='y', color='0.9')
            for i, one in enumerate(networks):
                if summary := one['summary'].get(target):
                    line = [summary['clean'], *summary['curves'][name]]
                    axes.plot(
                        [0, *severities], line, marker=MARKERS[i % 7], ms=3, lw=1,
                        color=COLOURS[i % 7], label=plain(one['name']),
                    )  # fmt: skip
            axes.set_xticks([0, *severities])
            axes.tick_params(labelsize=7)
        for axes in every[len(names) :]:
            axes.axis('off')
        every[0].set_ylim(bottom=0)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right upper', frameon=False, fontsize=8)
    figure.supxlabel('severity, 0: clean', fontsize=9)
    _save(figure, path)


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it is, for a name may hold a formula."""
    return text.replace('$', r'\$')

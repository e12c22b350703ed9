"""The table of docs/networks.md: python -m benchmarks.networks [--write docs/networks.md] [NETWORK]...

Every registered network at its default size is built, slimmed and exported to ncnn, and what came out is counted and
timed on one thread. Weights are as training begins; neither sizes nor times depend on them.
"""

import os
import tempfile
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import run_command
from agedge.errors import AgedgeError
from benchmarks.pages import replace_table

# What was published, by whoever did: age MAE in years unless it says otherwise.
PUBLISHED = {
    "aec": "IMDB 6.28, WIKI 6.21",
    "agmixer": "in its paper (ISCAS 2025), which was not at hand",
    "c3ae": "IMDB 6.57, WIKI 6.44, MORPH2 2.75 (of the full form)",
    "efficientnetv2_s": "accuracy of six groups 70.5%, begun from ImageNet",
    "mobilenet025": "4.1 on an unnamed set, gender 96% (of the existing checkpoint)",
    "ssrnet": "IMDB 6.94, WIKI 6.76, MORPH2 3.16",
}
FORMS = {"c3ae, full": {"name": "c3ae", "full": True}}
HEADER = """| network | input | parameters | MXNet, MB | ncnn fp16, MB | MFLOPs | MXNet, ms | ncnn, ms | published |
|---|---|---|---|---|---|---|---|---|"""


def main(
    networks: Optional[List[str]] = typer.Argument(None, metavar="[NETWORK]...", help="All, where none is named."),
    write: Optional[Path] = typer.Option(None, help="The Markdown file whose table is to be replaced."),
    repeats: int = typer.Option(50, min=1, help="Faces timed; the median counts."),
):
    """Print the table of networks, or write it into a page."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything loads MXNet
    import symbols

    forms = {**{name: {"name": name} for name in symbols.names()}, **FORMS}
    chosen = sorted(networks or forms)
    for name in chosen:
        if name not in forms:
            raise AgedgeError(f"{name}: not among {', '.join(sorted(forms))}")
    rows = []
    for name in chosen:
        rows.append(make_row(name, forms[name], repeats))
        print(rows[-1])
    if write:
        replace_table(write, "\n".join([HEADER, *rows]), "benchmarks.networks")


def make_row(name: str, arguments: dict, repeats: int) -> str:
    """One network as a row of the table."""
    import mxnet as mx

    import symbols
    from agedge.runtime.card import Card
    from agedge.runtime.model_files import save_model
    from deploy.bench import time_runtimes
    from deploy.cost import count_multiplications
    from deploy.export import export_model

    network = symbols.create(**arguments)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    parameters = network.collect_params().values()
    trained = sum(p.data().size for p in parameters if p.grad_req != "null")
    shape = {"name": "data", "size": network.size, "channels": "RGB", "range": [0, 255]}
    with tempfile.TemporaryDirectory() as folder:
        card = Card(arguments["name"], network.arguments, shape, dict(network.answers))
        card = save_model(network.slim(), card, Path(folder, "model"))
        sizes = {form.runtime: form.size for form in export_model(card.folder, ["ncnn"], Path(folder, "out"))}
        times = time_runtimes(card.folder, str(Path(folder, "out")), repeats)
        flops = count_multiplications(card)
    return (
        f"| {name} | {network.size} | {trained:,} | {sizes['mxnet'] / 1e6:.2f} | {sizes['ncnn-fp16'] / 1e6:.2f} "
        f"| {flops / 1e6:,.1f} | {times['mxnet']:.2f} | {times['ncnn']:.2f} | {PUBLISHED.get(name, '')} |"
    )


if __name__ == "__main__":
    run_command(main)

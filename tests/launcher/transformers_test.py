"""What `plasmid checkpoint export` writes is, to `transformers`, the model that was trained: the same loss of the same
windows. Ends with 77 (skipped) where Python has no transformers or torch."""

import pathlib
import sys
import tempfile

import plasmid_command as plasmid
from plasmid_command import Enum

SKIPPED = 77
TOLERANCE = 1e-5  # relative; both compute in float32
LENGTH = 128
WINDOWS = 3


def job(folder, name, text, model, **train):
    path = folder / f"{name}.textproto"
    path.write_text(plasmid.job_text({
        "run_directory": str(folder / name),
        "model": model,
        "data": {"files": [str(text)], "tokenizer": Enum("BYTE"), "order": Enum("SEQUENTIAL"),
                 "sequence_length": LENGTH},
        "optimizer": {"learning_rate": train.pop("rate")},
        "train": train,
    }))
    return path


def run(arguments):
    result = plasmid.run(arguments)
    assert result.returncode == 0, result.stderr


def losses_by_transformers(directory, content):
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(directory).eval().float()
    losses = []
    for window in range(WINDOWS):
        ids = torch.tensor([list(content[window * LENGTH:(window + 1) * LENGTH + 1])])
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits
        losses.append(torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]).item())
    return losses


def main():
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as missing:
        print(f"skipped: {missing}")
        return SKIPPED
    good = True
    with tempfile.TemporaryDirectory(prefix="plasmid-transformers-") as name:
        folder = pathlib.Path(name)
        text = plasmid.SOURCE / "LICENSE"
        for family in ("GPT2", "LLAMA"):
            shape = {"family": Enum(family), "layers": 2, "width": 32, "heads": 4, "kv_heads": 4}
            if family == "LLAMA":
                shape["kv_heads"] = 2
            run(["train", job(folder, family, text, shape, rate=1e-2, steps=20, batch=2)])
            exported = folder / f"{family}-model"
            run(["checkpoint", "export", folder / family, "--to", exported])
            again = f"{family}-again"
            run(["train", job(folder, again, text, {"from": str(exported)}, rate=0, steps=WINDOWS, batch=1)])
            ours = [row["loss"] for row in plasmid.metrics(folder / again)]
            for one, other in zip(ours, losses_by_transformers(exported, text.read_bytes()), strict=True):
                print(f"{family}: {one} here, {other} by transformers")
                good = good and abs(one - other) <= TOLERANCE * other
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Loads model folders with transformers and prints its report on each as JSON.

    python loads.py < [{"folder": ..., "auto_class": ..., "inputs": {"input_ids": [[...]], ...}}, ...]
"""

import json
import sys

import torch
import transformers


def load(folder, auto_class, inputs):
    model, report = getattr(transformers, auto_class).from_pretrained(folder, output_loading_info=True)
    with torch.no_grad():
        out = model.eval()(**{key: torch.tensor(value) for key, value in inputs.items()})
    logits = out.logits if "logits" in out else out.last_hidden_state
    return {
        "class": type(model).__name__,
        "version": transformers.__version__,
        "report": {key: sorted(map(str, value)) for key, value in report.items()},
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "shape": list(logits.shape),
        "logits": logits.flatten().tolist(),
    }


json.dump([load(**task) for task in json.load(sys.stdin)], sys.stdout)

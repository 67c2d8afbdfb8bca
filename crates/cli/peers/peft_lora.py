#!/usr/bin/env python3
"""A training step of a low-rank adapter with PEFT, as a worker for comparison in `bench --finetune`.

Started with a folder of a causal model, it answers each line of standard input with one line of JSON:

  step N        N training steps: {"ms": [...], "peak_rss_mib": ...}

A step matches Vulpes's: forward, cross-entropy of the next token, backward, gradient norm clipped to 1, fused AdamW
on synthetic ids, with a LoRA adapter on every linear layer of the blocks and everything else frozen. The model's weights are
float32 or, with --bf16, bfloat16. Needs torch 2, transformers and peft.
"""
import argparse
import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers


class Worker:
    """Keeps the model between the requests."""

    def __init__(self, args):
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        base = transformers.AutoModelForCausalLM.from_pretrained(args.folder, dtype=dtype)
        settings = peft.LoraConfig(
            r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self.model = peft.get_peft_model(base, settings).train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, fused=True)
        shape = (args.batch_rows, args.context_len)
        counter = torch.arange(args.batch_rows * args.context_len)
        self.ids = (counter * 7919 % base.config.vocab_size).view(shape)

    def step(self):
        loss = self.model(input_ids=self.ids, labels=self.ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def steps(self, n):
        times = []
        for _ in range(n):
            start = time.perf_counter()
            self.step()
            times.append((time.perf_counter() - start) * 1e3)
        return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    for size in ("rank", "context_len", "batch_rows", "threads"):
        parser.add_argument("--" + size.replace("_", "-"), type=int, required=True)
    parser.add_argument("--bf16", action="store_true", help="hold the model's weights in bfloat16")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    worker = Worker(parser.parse_args())
    print(json.dumps({"name": f"PEFT {peft.__version__}, PyTorch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        _, n = line.split()
        times = worker.steps(int(n))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"ms": times, "peak_rss_mib": peak}), flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Training steps and generation of a pre-norm GPT in PyTorch, as a worker for comparison in `bench`.

Started with the sizes of the model, it answers each line of standard input with one line of JSON:

  step N        N training steps: {"ms": [...], "peak_rss_mib": ...}
  generate N    N tokens one at a time with a key/value cache, greedily: {"ms": [per token], "peak_rss_mib": ...}

A step matches Vulpes's: forward (learned positions, tanh GELU, tied head, causal attention through
scaled_dot_product_attention), cross-entropy, backward, gradient norm clipped to 1, fused AdamW on synthetic ids, all in
float32 or, with --bf16, under autocast to bfloat16. Needs torch 2 and nothing else.
"""
import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, d_model, n_head):
        super().__init__()
        self.n_head = n_head
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)

    def forward(self, x, past=None):
        b, t, d = x.shape
        heads = self.qkv(self.attention_norm(x)).view(b, t, 3, self.n_head, d // self.n_head)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        if past is not None:
            if past:
                k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
            past[:] = (k, v)
        context = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        x = x + self.output(context.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh"))


class Gpt(nn.Module):
    """Embeddings, blocks, norm, and the token embedding again as the head."""

    def __init__(self, args):
        super().__init__()
        self.token = nn.Embedding(args.vocab_size, args.d_model)
        self.position = nn.Embedding(args.context_len, args.d_model)
        self.blocks = nn.ModuleList(Block(args.d_model, args.n_head) for _ in range(args.n_layer))
        self.norm = nn.LayerNorm(args.d_model)

    def forward(self, ids, targets):
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.token.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    @torch.inference_mode()
    def next_token(self, token, place, cache):
        x = self.token.weight[token].view(1, 1, -1) + self.position.weight[place]
        for block, past in zip(self.blocks, cache):
            x = block(x, past)
        return int(F.linear(self.norm(x[0, -1]), self.token.weight).argmax())


class Worker:
    """Keeps the model between the requests."""

    def __init__(self, args):
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        self.args, self.model = args, Gpt(args)
        self.run = torch.compile(self.model) if args.compile else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        counter = torch.arange(args.batch_rows * args.context_len)
        shape = (args.batch_rows, args.context_len)
        self.ids = (counter * 7919 % args.vocab_size).view(shape)
        self.targets = ((counter * 7919 + 13) % args.vocab_size).view(shape)

    def step(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
            loss = self.run(self.ids, self.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
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

    def generate(self, n):
        times, cache, token = [], [[] for _ in self.model.blocks], 1
        for place in range(min(n, self.args.context_len - 1)):
            start = time.perf_counter()
            token = self.model.next_token(token, place, cache)
            times.append((time.perf_counter() - start) * 1e3)
        return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for size in ("n_layer", "n_head", "d_model", "context_len", "batch_rows", "vocab_size", "threads"):
        parser.add_argument("--" + size.replace("_", "-"), type=int, required=True)
    parser.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    parser.add_argument("--bf16", action="store_true", help="train under autocast to bfloat16")
    worker = Worker(parser.parse_args())
    print(json.dumps({"name": f"PyTorch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        what, n = line.split()
        times = {"step": worker.steps, "generate": worker.generate}[what](int(n))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"ms": times, "peak_rss_mib": peak}), flush=True)


if __name__ == "__main__":
    main()

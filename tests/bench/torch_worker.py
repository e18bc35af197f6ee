#!/usr/bin/env python3
"""PyTorch's side of versus_torch.py: checks nothing, warms up, then runs once for each line that it reads and prints its
seconds, as `plasmid bench ... --on-request` does."""
import argparse
import json
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


def resident_peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def serve(work, **facts):
    work()
    with open("/proc/self/clear_refs", "w") as peaks:
        peaks.write("5")  # the peak is that of what is timed, as in the other contestant
    print(json.dumps({"pids": [os.getpid()], **facts}), flush=True)
    for _ in sys.stdin:
        if dist.is_initialized():
            dist.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"wall": wall, "cpu": cpu, "resident_peak": resident_peak()}), flush=True)


def leaves(*shape):
    return [torch.randn(*shape, requires_grad=True) for _ in range(3)]


def attention(options):
    q, k, v = leaves(1, options.heads, options.tokens, options.d)
    upstream = torch.randn_like(q)

    def both():
        for tensor in (q, k, v):
            tensor.grad = None
        F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(upstream)

    serve(both)


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.from_heads = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.to_qkv(self.before_attention(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.from_heads(mixed)
        return x + self.narrow(F.gelu(self.widen(self.before_mlp(x)), approximate="tanh"))


class SmallGpt(nn.Module):
    """As Plasmid's GPT2: learned positions, pre-norm layers, the token embedding as output layer."""

    def __init__(self, layers, width, heads, positions, vocabulary=256):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens, labels):
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.last(x), self.token.weight)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def step(options):
    model = SmallGpt(options.layers, 384, 6, options.tokens)
    place = torch.arange(options.tokens + 1)
    line = ((place * place // 7 + place % 11) % 256)[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    loss_of = torch.compile(model) if options.mode == "compiled" else model

    def train():
        loss_of(line[:, :-1], line[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    serve(train)


def relative_error(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


def ring(options):
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29571")
    dist.init_process_group("gloo", rank=options.rank, world_size=options.ranks)
    from ring_attention_pytorch.ring_flash_attention import ring_flash_attn

    def problem(tokens, bucket):
        """The whole line's q, k, v and upstream gradient, this rank's part of each, and forward + backward of it."""
        torch.manual_seed(1)  # the same line on every rank
        whole = [torch.randn(1, tokens, options.heads, options.d) for _ in range(4)]
        mine = [part.chunk(options.ranks, dim=1)[options.rank].clone() for part in whole]
        q, k, v = (part.requires_grad_() for part in mine[:3])

        def both():
            for tensor in (q, k, v):
                tensor.grad = None
            out = ring_flash_attn(q, k, v, causal=True, bucket_size=bucket, ring_reduce_col=True, ring_size=options.ranks)
            out.backward(mine[3])
            return out.detach()

        return whole, (q, k, v), both

    whole, (q, k, v), both = problem(512, 64)
    found = [both(), q.grad, k.grad, v.grad]
    alone = [part.transpose(1, 2).clone().requires_grad_() for part in whole[:3]]
    out = F.scaled_dot_product_attention(*alone, is_causal=True)
    out.backward(whole[3].transpose(1, 2))
    wanted = [tensor.transpose(1, 2).chunk(options.ranks, dim=1)[options.rank]
              for tensor in (out.detach(), *(tensor.grad for tensor in alone))]
    errors = [relative_error(a, b) for a, b in zip(found, wanted)]
    serve(problem(options.tokens, 512)[2], errors=errors)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["attention", "step", "ring"])
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--mode", default="eager")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    {"attention": attention, "step": step, "ring": ring}[options.what](options)


if __name__ == "__main__":
    main()

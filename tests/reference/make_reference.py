#!/usr/bin/env python3
"""Makes the reference numbers of this folder: python3 make_reference.py  (needs torch, numpy, safetensors).

Weights and inputs are float32; everything computed from them is float64. The models are written out here in plain
tensor operations, as Hugging Face defines them; with `transformers` installed they are compared with it first.
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
T, VOCABULARY, WIDTH, LAYERS, HEADS, KV_HEADS = 64, 61, 24, 2, 3, 1
HEAD = WIDTH // HEADS
POSITIONS, SWIGLU = 80, 40
AXES, AXIAL, CHUNK, HEAD_SIZE = [8, 10], 9, 16, 6
EPSILON = 1e-5


def attention(q, k, v):  # [heads, T, d], [kv_heads, T, d]; causal
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1) @ v


def split(x, heads):  # [T, heads * d] -> [heads, T, d]
    return x.view(len(x), heads, -1).transpose(0, 1)


def join(x):
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def gpt2(w, tokens):
    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), w[name + ".weight"], w[name + ".bias"], EPSILON)

    def project(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: len(tokens)]
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}."
        q, k, v = project(norm(x, h + "ln_1"), h + "attn.c_attn").split(WIDTH, 1)
        x = x + project(join(attention(*(split(part, HEADS) for part in (q, k, v)))), h + "attn.c_proj")
        inner = F.gelu(project(norm(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh")
        x = x + project(inner, h + "mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T


def rope(x):  # [heads, T, d]
    half = x.shape[2] // 2
    angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    u, z = x[..., :half], x[..., half:]
    return torch.cat([u * angle.cos() - z * angle.sin(), z * angle.cos() + u * angle.sin()], -1)


def llama(w, tokens):
    def norm(x, name):
        return x * (x.pow(2).mean(-1, keepdim=True) + EPSILON).rsqrt() * w[name + ".weight"]

    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(LAYERS):
        h = f"model.layers.{layer}."
        n = norm(x, h + "input_layernorm")
        q, k, v = (n @ w[h + f"self_attn.{part}_proj.weight"].T for part in "qkv")
        out = attention(rope(split(q, HEADS)), rope(split(k, KV_HEADS)), split(v, KV_HEADS))
        x = x + join(out) @ w[h + "self_attn.o_proj.weight"].T
        n = norm(x, h + "post_attention_layernorm")
        inner = F.silu(n @ w[h + "mlp.gate_proj.weight"].T) * (n @ w[h + "mlp.up_proj.weight"].T)
        x = x + inner @ w[h + "mlp.down_proj.weight"].T
    return norm(x, "model.norm") @ w["lm_head.weight"].T


def reformer(w, tokens):  # local layers alone: hashes are drawn at random
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], EPSILON)

    def local(q, k, v):  # each query sees its chunk and the one before, nothing later
        place = torch.arange(len(tokens))
        seen = (place[:, None] >= place) & (place[:, None] // CHUNK - place // CHUNK <= 1)
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
        return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v

    rows, columns = (w[f"reformer.embeddings.position_embeddings.weights.{axis}"] for axis in range(2))
    grid = torch.cat([rows.expand(*AXES, -1), columns.expand(*AXES, -1)], -1).reshape(-1, WIDTH)
    x1 = x2 = w["reformer.embeddings.word_embeddings.weight"][tokens] + grid[: len(tokens)]
    for layer in range(LAYERS):
        h = f"reformer.encoder.layers.{layer}."
        n = norm(x2, h + "attention.layer_norm")
        q, k, v = (split(n @ w[h + f"attention.self_attention.{part}.weight"].T, HEADS)
                   for part in ("query", "key", "value"))
        x1 = x1 + join(local(q, k, v)) @ w[h + "attention.output.dense.weight"].T
        n = norm(x1, h + "feed_forward.layer_norm")
        inner = F.relu(n @ w[h + "feed_forward.dense.dense.weight"].T + w[h + "feed_forward.dense.dense.bias"])
        x2 = x2 + inner @ w[h + "feed_forward.output.dense.weight"].T + w[h + "feed_forward.output.dense.bias"]
    both = norm(torch.cat([x1, x2], -1), "reformer.encoder.layer_norm")
    return both @ w["lm_head.decoder.weight"].T + w["lm_head.decoder.bias"]


def gpt2_shapes():
    shapes = {"transformer.wte.weight": (VOCABULARY, WIDTH), "transformer.wpe.weight": (POSITIONS, WIDTH)}
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}."
        for name, shape in {"attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH),
                            "mlp.c_fc": (WIDTH, 4 * WIDTH), "mlp.c_proj": (4 * WIDTH, WIDTH)}.items():
            shapes[h + name + ".weight"], shapes[h + name + ".bias"] = shape, shape[1:]
        for name in ("ln_1", "ln_2"):
            shapes[h + name + ".weight"] = shapes[h + name + ".bias"] = (WIDTH,)
    shapes["transformer.ln_f.weight"] = shapes["transformer.ln_f.bias"] = (WIDTH,)
    return shapes


def llama_shapes():
    kv = KV_HEADS * HEAD
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "lm_head.weight": (VOCABULARY, WIDTH),
              "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        h = f"model.layers.{layer}."
        shapes |= {h + "self_attn.q_proj.weight": (WIDTH, WIDTH), h + "self_attn.k_proj.weight": (kv, WIDTH),
                   h + "self_attn.v_proj.weight": (kv, WIDTH), h + "self_attn.o_proj.weight": (WIDTH, WIDTH),
                   h + "mlp.gate_proj.weight": (SWIGLU, WIDTH), h + "mlp.up_proj.weight": (SWIGLU, WIDTH),
                   h + "mlp.down_proj.weight": (WIDTH, SWIGLU), h + "input_layernorm.weight": (WIDTH,),
                   h + "post_attention_layernorm.weight": (WIDTH,)}
    return shapes


def reformer_shapes():
    embeddings = "reformer.embeddings."
    shapes = {embeddings + "word_embeddings.weight": (VOCABULARY, WIDTH),
              embeddings + "position_embeddings.weights.0": (AXES[0], 1, AXIAL),
              embeddings + "position_embeddings.weights.1": (1, AXES[1], WIDTH - AXIAL),
              "reformer.encoder.layer_norm.weight": (2 * WIDTH,), "reformer.encoder.layer_norm.bias": (2 * WIDTH,),
              "lm_head.decoder.weight": (VOCABULARY, 2 * WIDTH), "lm_head.decoder.bias": (VOCABULARY,)}
    for layer in range(LAYERS):
        h = f"reformer.encoder.layers.{layer}."
        inner = HEADS * HEAD_SIZE
        shapes |= {h + f"attention.self_attention.{part}.weight": (inner, WIDTH) for part in ("query", "key", "value")}
        shapes |= {h + "attention.output.dense.weight": (WIDTH, inner),
                   h + "feed_forward.dense.dense.weight": (SWIGLU, WIDTH), h + "feed_forward.dense.dense.bias": (SWIGLU,),
                   h + "feed_forward.output.dense.weight": (WIDTH, SWIGLU), h + "feed_forward.output.dense.bias": (WIDTH,)}
        for name in ("attention.layer_norm", "feed_forward.layer_norm"):
            shapes[h + name + ".weight"] = shapes[h + name + ".bias"] = (WIDTH,)
    return shapes


REFORMER_CONFIG = {"model_type": "reformer", "attn_layers": ["local"] * LAYERS, "hidden_size": WIDTH,
                   "num_attention_heads": HEADS, "attention_head_size": HEAD_SIZE, "feed_forward_size": SWIGLU,
                   "max_position_embeddings": POSITIONS, "vocab_size": VOCABULARY, "layer_norm_eps": EPSILON,
                   "hidden_act": "relu", "local_attn_chunk_length": CHUNK, "axial_pos_embds": True,
                   "axial_pos_shape": AXES, "axial_pos_embds_dim": [AXIAL, WIDTH - AXIAL], "is_decoder": True,
                   "hidden_dropout_prob": 0.0, "local_attention_probs_dropout_prob": 0.0, "tie_word_embeddings": False}
GPT2_CONFIG = {"model_type": "gpt2", "n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_positions": POSITIONS,
               "vocab_size": VOCABULARY, "layer_norm_epsilon": EPSILON, "activation_function": "gelu_new",
               "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "tie_word_embeddings": True}
LLAMA_CONFIG = {"model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": HEADS,
                "num_key_value_heads": KV_HEADS, "intermediate_size": SWIGLU, "max_position_embeddings": POSITIONS,
                "vocab_size": VOCABULARY, "rms_norm_eps": EPSILON, "hidden_act": "silu", "rope_theta": 10000.0,
                "tie_word_embeddings": False}


def compare_with_library(directory, tokens, logits):
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        print("transformers is not installed: not compared")
        return
    model = AutoModelForCausalLM.from_pretrained(directory / "model").double().eval()
    with torch.no_grad():
        theirs = model(tokens[None]).logits[0]
    error = ((theirs - logits).norm() / logits.norm()).item()
    print(f"{directory.name}: transformers differs by {error:.1e}")  # its rotary angles are float32
    assert error < 1e-6


def write_model(name, config, shapes, forward, seed):
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes.items():
        x = torch.randn(shape, generator=draw)
        gain = len(shape) == 1 and key.endswith("weight")
        # Queries and keys are scaled up, so that attention is far from uniform.
        sharp = 0.6 if ("c_attn" in key or "q_proj" in key or "k_proj" in key or "query" in key or ".key" in key) else 0.2
        weights[key] = 1 + 0.2 * x if gain else sharp * x
    tokens = torch.randint(0, VOCABULARY, (T + 1,), generator=draw)
    exact = {key: value.double().requires_grad_() for key, value in weights.items()}
    logits = forward(exact, tokens[:-1])
    loss = F.cross_entropy(logits, tokens[1:])
    loss.backward()
    directory = HERE / name
    (directory / "model").mkdir(parents=True, exist_ok=True)
    (directory / "model/config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(weights, directory / "model/model.safetensors", {"format": "pt"})
    save_file({"input_ids": tokens[:-1].int(), "labels": tokens[1:].int().clone(), "logits": logits.detach().float()},
              directory / "window0.safetensors")
    save_file({key: value.grad.float() for key, value in exact.items()}, directory / "grads.safetensors")
    (directory / "meta.json").write_text(json.dumps({"loss_float64": loss.item(), "seed": seed}) + "\n")
    compare_with_library(directory, tokens[:-1], logits.detach())


def write_attention(seed):
    """Grouped heads, two documents, one invalid key: rows 0 and 1 see nothing."""
    n, heads, kv_heads, d = 45, 4, 2, 8
    draw = torch.Generator().manual_seed(seed)
    q, dout = (torch.randn(n, heads, d, generator=draw) for _ in range(2))
    k, v = (torch.randn(n, kv_heads, d, generator=draw) for _ in range(2))
    q = 2 * q
    document = torch.arange(n) >= 19
    valid = torch.ones(n, dtype=torch.bool)
    valid[[0, 1, 23]] = False
    allowed = torch.ones(n, n, dtype=torch.bool).tril() & (document[:, None] == document) & valid
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    eq, ek, ev = exact
    ek, ev = ek.repeat_interleave(2, 1), ev.repeat_interleave(2, 1)
    seen = allowed.any(1)  # rows without a key: out 0, lse -inf, no gradient
    scores = torch.einsum("ihc,jhc->hij", eq[seen], ek) / math.sqrt(d)
    scores = scores.masked_fill(~allowed[seen], -math.inf)
    out, lse = torch.zeros(n, heads, d).double(), torch.full((n, heads), -math.inf).double()
    out[seen] = torch.einsum("hij,jhc->ihc", scores.softmax(-1), ev)
    lse[seen] = scores.logsumexp(-1).T
    gradients = torch.autograd.grad((out * dout.double()).sum(), exact)
    tensors = {"q": q, "k": k, "v": v, "dout": dout, "out": out.detach(), "lse": lse.detach()}
    tensors |= dict(zip(("dq", "dk", "dv"), gradients))
    tensors |= {"document_begin": torch.tensor([0, 19, n]), "key_valid": valid.to(torch.uint8)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "attention.safetensors")


if __name__ == "__main__":
    write_model("gpt2_tiny", GPT2_CONFIG, gpt2_shapes(), gpt2, 1)
    write_model("llama_tiny", LLAMA_CONFIG, llama_shapes(), llama, 2)
    write_model("reformer_tiny", REFORMER_CONFIG, reformer_shapes(), reformer, 4)
    write_attention(3)

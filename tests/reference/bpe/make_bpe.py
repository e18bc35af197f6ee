#!/usr/bin/env python3
"""Makes the tokenizers of this folder and the ids that Hugging Face `tokenizers` gives with them:
python3 make_bpe.py TEXT  (needs tokenizers; TEXT is any English text, of which an excerpt is kept in cases.json)
"""
import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

AWKWARD = [
    "", " ", "  ", "a", " a", "a ", "\n", "\r\n\r\n", "\t\t x \t\n  y   \n\n   z",
    "Hello world! It's they'll we've I'D CAN'T 'tis o'clock ''s 'ſ",
    "1 12 123 1234 12345678 3.14159 ½ ² ٣٤٥ Ⅷ x2y3",
    "don't  stop    believing      now" + " " * 40 + "end" + " " * 33,
    "naïve café Ångström — “quotes” … ‘x’ 10€ £5 ¥",
    "nai\u0308ve cafe\u0301 A\u030angstro\u0308m \u212b \u2126 q\u0307\u0323 \u0958 \u1100\u1161\u11a8",
    "日本語のテキスト。中文字符，한국어 텍스트! ไทย हिन्दी العربية עברית",
    "😀😃👍🏽👩‍👩‍👧‍👦🇩🇪 \U0001f680x \U00010348",
    "zero\u200bwidth \u00a0nbsp\u2003em\u3000wide\u0085next\u2028line\u180esep\ufeffbom",
    "control \x00\x01\x1b[0m\x7f\x80 end", "<|endoftext|>", "a<|endoftext|>b <|endoftext|> <|endoftext|><|endoftext|>c",
    "<s>x</s> <unk> <0x41> ▁▁ a▁b", "<tool> call</tool> <tool><toolbox> é<tool>e\u0301", "x" * 300, "ab" * 70 + " " + "\n" * 50,
    "https://example.org/a?b=c&d=%20#e_f-g", "if (x<=3) {\n\treturn y[i++] != '\\0';\n}\n", "!!!???...;;; ---===+++ ()[]{}",
    "ÀÈÌÒÙ straße ŒUVRE ǆ İstanbul ΣΊΣΥΦΟΣ Привет, мир", "\ue000\uffff\U0010ffff",
]


def trained(pre_tokenizer, vocabulary, text, special=(), alphabet=(), **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(special), initial_alphabet=list(alphabet),
                                  show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def changed(tokenizer, **parts):
    """The same vocabulary under other rules."""
    content = json.loads(tokenizer.to_str())
    for path, value in parts.items():
        *groups, last = path.split("__")
        place = content
        for group in groups:
            place = place[group]
        place[last] = value
    return Tokenizer.from_str(json.dumps(content))


def make(text):
    byte_level, split = pre_tokenizers.ByteLevel, pre_tokenizers.Split
    alphabet = byte_level.alphabet()
    bare = byte_level(add_prefix_space=False, use_regex=False)
    made = {}
    gpt2 = made["gpt2"] = trained(byte_level(add_prefix_space=False), 420, text, ["<|endoftext|>"], alphabet)
    made["llama3"] = trained(pre_tokenizers.Sequence([split(Regex(LLAMA3), "isolated"), bare]), 420, text,
                             ["<|endoftext|>", "<|endofturn|>"], alphabet, ignore_merges=True)
    made["gpt2_prefix"] = changed(gpt2)
    made["gpt2_prefix"].pre_tokenizer = byte_level(add_prefix_space=True)
    made["gpt2_whole"] = changed(gpt2)
    made["gpt2_whole"].pre_tokenizer = bare

    qwen = made["qwen"] = trained(pre_tokenizers.Sequence([split(Regex(QWEN), "isolated"), bare]), 420, text,
                                  ["<|endoftext|>"], alphabet)
    qwen.normalizer = normalizers.NFC()
    qwen.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<toolbox>", normalized=False),
                     AddedToken("e\u0301", normalized=True), AddedToken("  ", normalized=True)])
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            name = behavior + ("_invert" if invert else "")
            made[name] = changed(gpt2)
            made[name].pre_tokenizer = pre_tokenizers.Sequence(
                [split(Regex(r"[\s.'a]"), behavior, invert), pre_tokenizers.Digits(individual_digits=not invert), bare])

    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    llama2 = trained(metaspace, 600, text, ["<unk>", "<s>", "</s>", *bytes_], (), unk_token="<unk>", fuse_unk=True,
                     byte_fallback=True)
    content = json.loads(llama2.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in bytes_]
    content["pre_tokenizer"] = None
    content["normalizer"] = json.loads(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
                                       .__getstate__())
    made["llama2"] = Tokenizer.from_str(json.dumps(content))
    unknown = made["metaspace"] = trained(pre_tokenizers.Metaspace(prepend_scheme="first"), 300, text,
                                          ["<unk>", "<s>", "</s>"], (), unk_token="<unk>", fuse_unk=True)
    made["metaspace_whole"] = changed(unknown, model__fuse_unk=False)
    made["metaspace_whole"].pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    made["metaspace_never"] = changed(unknown)
    made["metaspace_never"].pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made["unknown_whole"] = changed(unknown, pre_tokenizer=None)
    return made


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")[:400_000]
    made = make(text)
    texts = AWKWARD + [text[20_000:21_500]]
    for name, tokenizer in made.items():
        content = json.loads(tokenizer.to_str())
        (HERE / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n",
                                           encoding="utf-8")
    ids = {name: [tokenizer.encode(t, add_special_tokens=False).ids for t in texts] for name, tokenizer in made.items()}
    (HERE / "cases.json").write_text(json.dumps({"texts": texts, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

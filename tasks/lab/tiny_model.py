"""A model folder made here from nothing: a real architecture, a real tokenizer, and no weights.

The server runs it with `--load-format dummy` (random weights), so no model hub is ever asked. The size is
chosen for decode steps of 10-50 ms on one core: long enough that faults show, short enough for many batches.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TypeAlias

VOCABULARY = 512
SPECIAL_TOKENS = ("<unk>", "<bos>", "<eos>", "<pad>")
SERVE_ARGS: dict[str, dict[str, bool | int | str]] = {
    "vllm": {"enforce-eager": True, "load-format": "dummy", "max-model-len": 2048, "max-num-seqs": 16},
    "sglang": {
        "load-format": "dummy",
        "device": "cpu",
        "attention-backend": "torch_native",
        "context-length": 2048,
        "max-running-requests": 16,
        "max-total-tokens": 65_536,
        "sleep-on-idle": True,  # an idle server would take a whole CPU
    },
}
"""The arguments that serve it well on a CPU, by engine kind; a campaign spec gives its own."""

Json: TypeAlias = dict[str, object]


def model_files() -> dict[str, Json]:
    """Return the folder's files by name, as the JSON objects that they hold."""
    return {
        "config.json": _config(),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(),
    }


def make_tiny_model(cache: Path) -> Path:
    """Make `<cache>/models/tiny-<hash>` unless it is there, and return it.

    The name carries a hash of all the files, so another size is another folder. Two may make it at once.

    Raises:
        OSError: the cache cannot be written.
    """
    texts = {name: json.dumps(content, indent=1) for name, content in model_files().items()}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:10]
    folder = cache / "models" / f"tiny-{digest}"
    if not folder.is_dir():
        _write_folder(folder, texts)
    return folder


def _write_folder(folder: Path, texts: dict[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tiny-", dir=folder.parent))
    try:
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        os.rename(temporary, folder)  # noqa: PTH104 - Path.rename reads the same; this one says it is a folder
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # else somebody else was quicker, with the same content
            raise


def _config() -> Json:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": 1024,
        "num_hidden_layers": 8,
        "intermediate_size": 2816,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 8192,
        "vocab_size": VOCABULARY,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "initializer_range": 0.02,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }


def _tokenizer() -> Json:
    """One word, one token: a prompt of 32 random tokens is 32 tokens again after text and back.

    A byte-level vocabulary cannot promise that: random bytes are rarely valid UTF-8, and come back longer.
    """
    words = [*SPECIAL_TOKENS, *(f"w{index:03d}" for index in range(len(SPECIAL_TOKENS), VOCABULARY))]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": word, **special} for i, word in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(words)},
            "unk_token": SPECIAL_TOKENS[0],
        },
    }


def _tokenizer_config() -> Json:
    unknown, begin, end, pad = SPECIAL_TOKENS
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unknown,
        "bos_token": begin,
        "eos_token": end,
        "pad_token": pad,
        "model_max_length": 8192,
        "clean_up_tokenization_spaces": False,
    }

"""Writes a GGUF file of the Llama family as the Hugging Face folder that Libra imports, its weights as 32-bit floats.

    pip install torch transformers accelerate gguf
    python scripts/from-gguf.py model.gguf models/my-llama
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = Path(sys.argv[1]), Path(sys.argv[2])
read = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
model = AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
config = model.config.to_dict()
config.pop("quantization_config", None)
tied = config.get("tie_word_embeddings")
weights = {
    name: tensor.contiguous()
    for name, tensor in model.state_dict().items()
    if not (tied and name == "lm_head.weight")
}
target.mkdir(parents=True)
(target / "config.json").write_text(json.dumps(config, indent=1, default=str))
save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
AutoTokenizer.from_pretrained(**read).save_pretrained(target)

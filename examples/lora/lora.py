"""LoRA as peft makes it, on a Llama-like model from its config: nothing is downloaded."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def build(rank=16, targets=("q_proj", "k_proj", "v_proj", "o_proj"), **sizes):
    """Return a model whose base is frozen in bfloat16, with adapters in float32, which is peft's default."""
    model = LlamaForCausalLM(LlamaConfig(use_cache=False, **sizes)).to(torch.bfloat16)
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets)))

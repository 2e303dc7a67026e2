"""Synthetic sentences of different lengths."""

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset


class Sentences(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, i):
        length = 5 + i * 37 % 60
        words = torch.arange(length) % 4999 + 1
        return words, words % 12


def padded(samples):
    words, tags = zip(*samples)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-100)

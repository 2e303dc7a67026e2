"""Train on sentences of similar length, drawn by a batch sampler of our own."""

import argparse
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset


class Sentences(Dataset):
    def __init__(self, length):
        rng = random.Random(0)
        self.sentences = [torch.randint(1, 500, (rng.randint(4, 48),)) for _ in range(length)]
        self.lengths = [len(sentence) for sentence in self.sentences]

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, index):
        return self.sentences[index], index % 3


class BucketBatchSampler:
    """Yield batches of indices: sentences sorted by length, in groups, and the groups in random order."""

    def __init__(self, lengths, batch_size):
        self.lengths, self.batch_size = lengths, batch_size

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = sorted(range(len(self.lengths)), key=self.lengths.__getitem__)
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        random.shuffle(batches)
        yield from batches


def collate(samples):
    sentences, labels = zip(*samples)
    return pad_sequence(sentences, batch_first=True), torch.tensor(labels)


parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
data = Sentences(512)
loader = DataLoader(data, batch_sampler=BucketBatchSampler(data.lengths, args.batch_size), collate_fn=collate)
embedding = nn.Embedding(500, 64, padding_idx=0).to(device)
convolution = nn.Conv1d(64, 128, 3, padding=1).to(device)
head = nn.Linear(128, 3).to(device)
parameters = [*embedding.parameters(), *convolution.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters, lr=1e-3)
for step, (ids, labels) in enumerate(loader):
    features = convolution(embedding(ids.to(device)).transpose(1, 2)).relu().amax(dim=2)
    loss = nn.functional.cross_entropy(head(features), labels.to(device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 8 == 0:
        print(f"step {step}: {tuple(ids.shape)}, loss {loss.item():.3f}")

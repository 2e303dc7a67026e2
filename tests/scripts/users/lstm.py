"""Train a language model with LSTM layers, whose state is carried from batch to batch."""

import argparse

import torch
from torch import nn


class LanguageModel(nn.Module):
    def __init__(self, vocabulary=200, width=64):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, 128, num_layers=2, dropout=0.2)
        self.decoder = nn.Linear(128, vocabulary)

    def forward(self, tokens, state):
        hidden, state = self.lstm(self.embedding(tokens), state)
        return self.decoder(hidden), state

    def initial_state(self, batch_size):
        weight = next(self.parameters())
        return weight.new_zeros(2, batch_size, 128), weight.new_zeros(2, batch_size, 128)


def batchify(tokens, batch_size):
    length = len(tokens) // batch_size
    return tokens[: length * batch_size].view(batch_size, length).t().contiguous()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--bptt", type=int, default=35)
    parser.add_argument("--tokens", type=int, default=7200)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    corpus = batchify(torch.randint(0, 200, (args.tokens,)), args.batch_size).to(device)
    model = LanguageModel().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    criterion = nn.CrossEntropyLoss()
    state = model.initial_state(args.batch_size)
    for i in range(0, len(corpus) - 1, args.bptt):
        length = min(args.bptt, len(corpus) - 1 - i)
        inputs, targets = corpus[i : i + length], corpus[i + 1 : i + 1 + length].reshape(-1)
        state = tuple(part.detach() for part in state)
        optimizer.zero_grad()
        output, state = model(inputs, state)
        loss = criterion(output.flatten(0, 1), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
    print(f"perplexity {loss.exp().item():.1f}")


if __name__ == "__main__":
    main()

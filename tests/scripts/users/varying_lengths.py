"""Train a transformer on sequences that a collate function pads to the longest of the batch."""

import argparse

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, random_split


class Sequences(Dataset):
    def __init__(self, count):
        lengths = torch.randint(8, 96, (count,), generator=torch.Generator().manual_seed(0))
        self.sequences = [torch.randn(int(length), 16) for length in lengths]

    def __len__(self):
        return len(self.sequences)

    def __getitem__(self, index):
        sequence = self.sequences[index]
        return sequence, sequence.mean() > 0


def pad(samples):
    sequences, labels = zip(*samples)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = pad_sequence(sequences, batch_first=True)
    mask = torch.arange(padded.shape[1])[None] >= lengths[:, None]
    return padded, mask, torch.stack(labels).float()


class Classifier(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.project = nn.Linear(16, width)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=128, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, 1)

    def forward(self, x, mask):
        hidden = self.encoder(self.project(x), src_key_padding_mask=mask)
        hidden = hidden.masked_fill(mask[..., None], 0).sum(1) / (~mask).sum(1, keepdim=True)
        return self.head(hidden).squeeze(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--samples", type=int, default=400)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_set, valid_set = random_split(Sequences(args.samples), [0.8, 0.2])
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=pad)
    valid_loader = DataLoader(valid_set, batch_size=64, collate_fn=pad)
    model = Classifier().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()
    for x, mask, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x.to(device), mask.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
    print(f"train loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        losses = [criterion(model(x.to(device), mask.to(device)), y.to(device)).item() for x, mask, y in valid_loader]
    print(f"valid loss {sum(losses) / len(losses):.3f}")


if __name__ == "__main__":
    main()

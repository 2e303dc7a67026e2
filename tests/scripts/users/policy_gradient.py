"""Learn to balance a pole with a policy gradient: many environments at once, no data set and no DataLoader."""

import argparse

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical


class CartPoles:
    """The classic cart and pole, N of them at once."""

    def __init__(self, n, seed=0):
        self.rng, self.n = np.random.default_rng(seed), n
        self.state = self.rng.uniform(-0.05, 0.05, (n, 4))

    def step(self, actions):
        x, v, angle, w = self.state.T
        force = np.where(actions == 1, 10.0, -10.0)
        push = (force + 0.05 * w**2 * np.sin(angle)) / 1.1
        turn = (9.8 * np.sin(angle) - np.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        move = push - 0.05 * turn * np.cos(angle) / 1.1
        self.state = np.stack([x + 0.02 * v, v + 0.02 * move, angle + 0.02 * w, w + 0.02 * turn], axis=1)
        done = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.21)
        self.state[done] = self.rng.uniform(-0.05, 0.05, (int(done.sum()), 4))
        return self.state, np.ones(self.n), done


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh())
        self.policy, self.value = nn.Linear(128, 2), nn.Linear(128, 1)

    def forward(self, states):
        hidden = self.body(states)
        return Categorical(logits=self.policy(hidden)), self.value(hidden).squeeze(-1)


def rollout(agent, envs, length, device):
    states, actions, rewards, dones = [], [], [], []
    for _ in range(length):
        state = torch.as_tensor(envs.state, dtype=torch.float32, device=device)
        with torch.no_grad():
            action = agent(state)[0].sample()
        _, reward, done = envs.step(action.cpu().numpy())
        states.append(state)
        actions.append(action)
        rewards.append(torch.as_tensor(reward, dtype=torch.float32, device=device))
        dones.append(torch.as_tensor(done, device=device))
    returns, total = [], torch.zeros(envs.n, device=device)
    for reward, done in zip(reversed(rewards), reversed(dones)):
        total = reward + 0.99 * total * ~done
        returns.append(total)
    return torch.cat(states), torch.cat(actions), torch.cat(returns[::-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--rollout-length", type=int, default=32)
    parser.add_argument("--updates", type=int, default=8)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    envs, agent = CartPoles(args.num_envs), Agent().to(device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    for update in range(args.updates):
        states, actions, returns = rollout(agent, envs, args.rollout_length, device)
        distribution, values = agent(states)
        advantages = returns - values.detach()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        loss = -(distribution.log_prob(actions) * advantages).mean()
        loss = loss + 0.5 * (returns - values).pow(2).mean() - 0.01 * distribution.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
        optimizer.step()
        print(f"update {update}: loss {loss.item():.3f}, mean return {returns.mean().item():.2f}")


if __name__ == "__main__":
    main()

"""Agent State: what agents and devices do, and the reservation of agents."""

"""The trainings of GREAM on a few dozen users: both orders, each variant of the reward, and all parts over seeds."""

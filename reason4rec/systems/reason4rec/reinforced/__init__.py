"""The Reasoner trained by a reward: how near the Predictor comes to the true rating with what it writes."""

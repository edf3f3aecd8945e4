"""Write maps, probabilities, confidences and previews."""

"""From the model to what people and programs read. The only place that knows rich."""

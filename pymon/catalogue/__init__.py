"""The catalogue of metrics: names, types, units and help of each dialect. It is data only."""

"""Other people's stores and tools: MLflow and W&B in, TensorBoard and Parquet out."""

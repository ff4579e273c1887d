"""Other people's stores and tools: MLflow and W&B in; TensorBoard, Parquet and SQL for any DuckDB out."""

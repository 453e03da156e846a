//! From Kafka records to tweets.

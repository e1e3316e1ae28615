//! local_log

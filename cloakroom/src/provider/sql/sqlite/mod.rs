//! The SQLite provider: sessions in one file that many processes may share.

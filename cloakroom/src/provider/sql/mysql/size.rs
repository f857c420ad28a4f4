//! The limits on the size of a record.

use super::connection::ConnectionLease;
use super::error::MySqlError;
use super::schema;
use crate::provider::sql::row::Columns;

/// An upper bound on the bytes of a statement beside the record: two keys and a few numbers.
const AROUND_RECORD: usize = 1024;

/// Returns the largest record that a packet of `max_packet` bytes can carry.
pub(super) fn max_record_for(max_packet: usize) -> usize {
    // Below 16 MiB a statement is one packet of the protocol.
    max_packet.min(schema::LARGEST_RECORD).saturating_sub(AROUND_RECORD)
}

/// Checks the size of records before they are sent, since a packet that is too large ends the connection.
pub(super) fn check_size(
    connection: &ConnectionLease<'_>,
    all: &[&Columns<'_>],
    chosen: usize,
) -> Result<(), MySqlError> {
    let packet = connection.session().map_or(usize::MAX, |session| session.max_packet);
    let (limit, reason) = match max_record_for(packet) {
        limit if limit <= chosen && limit < max_record_for(usize::MAX) => {
            (limit, "the server's max_allowed_packet, less 1 KiB")
        }
        _ if chosen < max_record_for(usize::MAX) => {
            (chosen, "maxAllowedPacket of the data source name, less 1 KiB")
        }
        limit => (limit, "a MEDIUMBLOB, less 1 KiB"),
    };
    match all.iter().map(|columns| columns.record.len()).find(|found| *found > limit) {
        Some(found) => Err(MySqlError::TooLarge { limit, found, reason }),
        None => Ok(()),
    }
}

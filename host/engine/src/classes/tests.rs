use std::collections::BTreeSet;

use super::Meaning::{Conflict, Fatal, Halt, Login, Outage, Pause, Poison, Unknown};
use super::*;

/// SQLSTATEs as the server sends them, each with its expected meaning.
const SAID: &[(&str, Meaning)] = &[
    // cardinality_violation: a key occurs twice in a statement.
    ("21000", Poison),
    // string_data_right_truncation, numeric_value_out_of_range, datetime_field_overflow, invalid_text_representation
    ("22001", Poison),
    ("22003", Poison),
    ("22008", Poison),
    ("22P02", Poison),
    // sequence_generator_limit_exceeded
    ("2200H", Pause),
    // not_null, foreign_key, unique, check, exclusion
    ("23502", Poison),
    ("23503", Poison),
    ("23505", Poison),
    ("23514", Poison),
    ("23P01", Poison),
    // with_check_option_violation
    ("44000", Poison),
    // triggered_action_exception, case_not_found, triggered_data_change_violation
    ("09000", Poison),
    ("20000", Poison),
    ("27000", Poison),
    // raise_exception, no_data_found, assert_failure
    ("P0001", Poison),
    ("P0002", Poison),
    ("P0004", Poison),
    // program_limit_exceeded (an index row), statement_too_complex (a stack), too_many_columns, too_many_arguments
    ("54000", Poison),
    ("54001", Poison),
    ("54011", Fatal),
    ("54023", Fatal),
    // internal_error, data_corrupted, index_corrupted
    ("XX000", Unknown),
    ("XX001", Fatal),
    ("XX002", Fatal),
    // external_routine_exception, null_value_not_allowed, function_executed_no_return_statement
    ("38000", Unknown),
    ("39004", Unknown),
    ("2F005", Unknown),
    // a user-defined code, a foreign server's code, and an unforeseen one
    ("ZZ001", Unknown),
    ("HV000", Unknown),
    ("QQQQQ", Unknown),
    ("", Unknown),
    // serialization_failure, deadlock_detected, lock_not_available, object_in_use
    ("40001", Conflict),
    ("40P01", Conflict),
    ("55P03", Conflict),
    ("55006", Conflict),
    // in_failed_sql_transaction, idle_in_transaction_session_timeout, transaction_timeout
    ("25P02", Conflict),
    ("25P03", Conflict),
    ("25P04", Conflict),
    // read_only_sql_transaction
    ("25006", Outage),
    // connection_exception, connection_failure, protocol_violation (sent by poolers),
    // fdw_unable_to_establish_connection
    ("08000", Outage),
    ("08006", Outage),
    ("08P01", Outage),
    ("HV00N", Outage),
    // invalid_sql_statement_name
    ("26000", Outage),
    // disk_full, out_of_memory, too_many_connections
    ("53100", Outage),
    ("53200", Outage),
    ("53300", Outage),
    // object_not_in_prerequisite_state, cant_change_runtime_param, unsafe_new_enum_value_usage
    ("55000", Unknown),
    ("55P02", Fatal),
    ("55P04", Outage),
    // query_canceled, admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
    ("57014", Outage),
    ("57P01", Outage),
    ("57P02", Outage),
    ("57P03", Outage),
    ("57P04", Fatal),
    // system_error, io_error
    ("58000", Outage),
    ("58030", Outage),
    // feature_not_supported, invalid_grantor, invalid_role, dependent_privilege_descriptors_still_exist
    ("0A000", Fatal),
    ("0L000", Fatal),
    ("0P000", Fatal),
    ("2B000", Fatal),
    // invalid_authorization, invalid_password, invalid_catalog_name, invalid_schema_name
    ("28000", Login),
    ("28P01", Login),
    ("3D000", Fatal),
    ("3F000", Fatal),
    // undefined_table, undefined_column, undefined_function, insufficient_privilege, datatype_mismatch, ON CONFLICT
    ("42P01", Fatal),
    ("42703", Fatal),
    ("42883", Fatal),
    ("42501", Fatal),
    ("42804", Fatal),
    ("42P10", Fatal),
];

/// Returns the code of the table that decides the meaning of a SQLSTATE.
fn decides(code: &str) -> Option<&'static str> {
    let known = SQLSTATES.iter().flat_map(|row| row.codes).filter(|known| code.starts_with(**known));
    known.copied().max_by_key(|known| known.len())
}

#[test]
fn every_sqlstate_means_what_it_should() {
    for (code, meaning) in SAID {
        assert_eq!(sqlstate(ErrorInfo { code, ..ErrorInfo::default() }), *meaning, "{code}");
    }
}

/// Special cases of SQLSTATEs, as the server sends them.
const CASES_SAID: &[(&str, &str, &str, Meaning)] = &[
    ("42501", "aclcheck_error", "", Fatal),
    ("42501", "ExecWithCheckOptions", "", Poison),
    ("23514", "ExecConstraints", "", Poison),
    // A row for a partition other than the one being written.
    ("23514", "ExecPartitionCheckEmitError", "", Poison),
    ("23514", "ExecFindPartition", "", Pause),
    ("55000", "currval_oid", "", Unknown),
    ("55000", "CheckCmdReplicaIdentity", "", Pause),
    ("42P01", "parserOpenTable", "", Fatal),
    ("42P01", "parserOpenTable", "PL/pgSQL function audit() line 2 at SQL statement", Unknown),
    ("42804", "array_recv", "COPY tollgate_stage_1, line 3, column c1", Fatal),
    ("0A000", "exec_stmt_raise", "PL/pgSQL function refuse() line 3 at RAISE", Poison),
    ("0A000", "transformOnConflict", "SQL function \"audit\" statement 1", Unknown),
    ("42501", "exec_stmt_raise", "PL/pgSQL function refuse() line 3 at RAISE", Poison),
    ("28000", "exec_stmt_raise", "PL/pgSQL function refuse() line 3 at RAISE", Poison),
    // A privilege that the function lacks is not the row's fault.
    ("42501", "aclcheck_error", "PL/pgSQL function audit() line 2 at SQL statement", Fatal),
    // The function asks for a retry, or reports that it is closed for now.
    ("40001", "exec_stmt_raise", "PL/pgSQL function refuse() line 3 at RAISE", Conflict),
    ("57P03", "exec_stmt_raise", "PL/pgSQL function refuse() line 3 at RAISE", Outage),
];

#[test]
fn what_shares_its_sqlstate_is_told_apart() {
    for (code, routine, context, meaning) in CASES_SAID {
        let said =
            ErrorInfo { code, routine: Some(routine), context: Some(context).filter(|text| !text.is_empty()).copied() };
        assert_eq!(sqlstate(said), *meaning, "{said:?}");
    }
}

/// A row that another row overrides for every code would be misleading.
#[test]
fn every_row_of_the_table_decides_about_something() {
    let mut used: BTreeSet<&str> = SAID.iter().filter_map(|(code, _)| decides(code)).collect();
    let cases: BTreeSet<&str> = CASES.iter().map(|(name, _)| *name).collect();
    used.extend(&cases);
    let listed: Vec<&str> = SQLSTATES.iter().flat_map(|row| row.codes).copied().collect();
    assert_eq!(used, listed.iter().copied().collect());
    assert_eq!(listed.len(), used.len(), "a code is listed twice");
    assert!(listed.iter().all(|code| [2, 5].contains(&code.len()) || cases.contains(code)));
}

#[test]
fn every_code_of_kafkas_means_what_it_should() {
    use RDKafkaErrorCode as Code;
    let said: &[(&[Code], Meaning)] = &[
        (&[Code::MessageSizeTooLarge, Code::MessageBatchTooLarge], Poison),
        (&[Code::InvalidRecord, Code::InvalidDifferentRecord], Poison),
        (&[Code::IllegalGeneration, Code::UnknownMemberId, Code::RebalanceInProgress], Conflict),
        (&[Code::UnstableOffsetCommit, Code::ConcurrentTransactions], Conflict),
        (&[Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch, Code::InvalidProducerIdMapping], Conflict),
        (&[Code::InvalidTransactionalState, Code::UnknownProducerId, Code::OutOfOrderSequenceNumber], Conflict),
        (&[Code::TransactionCoordinatorFenced, Code::PurgeQueue, Code::PurgeInflight, Code::State], Conflict),
        (&[Code::Authentication, Code::SaslAuthenticationFailed, Code::SSL], Login),
        (&[Code::UnsupportedSASLMechanism, Code::IllegalSASLState], Login),
        (&[Code::TopicAuthorizationFailed, Code::GroupAuthorizationFailed, Code::ClusterAuthorizationFailed], Fatal),
        (&[Code::TransactionalIdAuthorizationFailed, Code::InconsistentGroupProtocol, Code::InvalidGroupId], Fatal),
        (&[Code::InvalidSessionTimeout, Code::InvalidTransactionTimeout, Code::FencedInstanceId], Fatal),
        (&[Code::OffsetMetadataTooLarge, Code::InvalidCommitOffsetSize], Fatal),
        (&[Code::InvalidRequiredAcks, Code::PolicyViolation], Fatal),
        (&[Code::UnsupportedCompressionType, Code::UnsupportedForMessageFormat], Fatal),
        (&[Code::UnsupportedVersion, Code::UnsupportedFeature], Fatal),
        // The client has retried the topic for its `topic.metadata.propagation.max.ms`.
        (&[Code::UnknownTopic, Code::InvalidTopic], Fatal),
        (&[Code::UnknownPartition], Halt),
        (&[Code::BadMessage, Code::BadCompression, Code::NotImplemented], Halt),
        (&[Code::OffsetOutOfRange, Code::AutoOffsetReset], Halt),
        (&[Code::BrokerTransportFailure, Code::AllBrokersDown, Code::Resolve, Code::MessageTimedOut], Outage),
        (&[Code::OperationTimedOut, Code::RequestTimedOut, Code::NotEnoughReplicas, Code::KafkaStorageError], Outage),
        (&[Code::CoordinatorNotAvailable, Code::NotCoordinator, Code::CoordinatorLoadInProgress], Outage),
        (&[Code::LeaderNotAvailable, Code::NotLeaderForPartition, Code::UnknownTopicOrPartition], Outage),
        // Records carry their send time, so the clock is wrong and not the event.
        (&[Code::InvalidTimestamp], Outage),
        (&[Code::InvalidMessage, Code::ThrottlingQuotaExceeded, Code::Unknown], Outage),
    ];
    let named = |codes: &[Code]| codes.iter().map(|code| format!("{code:?}")).collect::<Vec<_>>();
    for (codes, meaning) in said {
        for code in *codes {
            assert_eq!(kafka_code(*code), *meaning, "{code:?}");
        }
    }
    let mut tested: Vec<String> =
        said.iter().filter(|(_, meaning)| *meaning != OTHER_KAFKA).flat_map(|(codes, _)| named(codes)).collect();
    let mut listed: Vec<String> = KAFKA.iter().flat_map(|row| named(row.codes)).collect();
    tested.sort();
    listed.sort();
    assert_eq!(tested, listed);
}

#[test]
fn a_client_that_is_done_for_is_fatal() {
    assert_eq!(kafka(&KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::Fenced)), Fatal);
    assert_eq!(kafka(&KafkaError::MessageConsumption(RDKafkaErrorCode::Fatal)), Fatal);
    assert_eq!(kafka(&KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown)), Outage);
    assert_eq!(kafka(&KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed)), Fatal);
    assert_eq!(kafka(&KafkaError::Canceled), Outage);
}

//! Which versions of a model are served.

use super::VersionPolicy;
use crate::proto::ModelConfig;
use crate::proto::model_version_policy::{Latest, PolicyChoice};

impl VersionPolicy {
    /// The policy of a configuration; the latest version, where it has none.
    ///
    /// # Errors
    /// If it names versions that cannot be.
    pub(crate) fn of(config: &ModelConfig) -> Result<VersionPolicy, String> {
        let choice = config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref());
        match choice {
            None => Ok(VersionPolicy::Latest(1)),
            Some(PolicyChoice::All(_)) => Ok(VersionPolicy::All),
            Some(PolicyChoice::Latest(Latest { num_versions })) => {
                Ok(VersionPolicy::Latest((*num_versions).max(1) as usize))
            }
            Some(PolicyChoice::Specific(specific)) => {
                let number = |&version: &i64| {
                    let number = u64::try_from(version).ok().filter(|number| *number > 0);
                    number.ok_or_else(|| {
                        format!("version_policy names the version {version}; versions are numbers from 1")
                    })
                };
                let mut versions = specific.versions.iter().map(number).collect::<Result<Vec<_>, _>>()?;
                versions.sort_unstable();
                versions.dedup();
                if versions.is_empty() {
                    return Err("version_policy { specific } names no version".into());
                }
                Ok(VersionPolicy::Specific(versions))
            }
        }
    }

    /// Those of `there` that are served, in ascending order.
    ///
    /// # Errors
    /// If there is none of them.
    pub(crate) fn choose(&self, there: &[u64]) -> Result<Vec<u64>, String> {
        let mut there = there.to_vec();
        there.sort_unstable();
        if there.is_empty() {
            return Err(
                "there is no version: no folder of the model's has a number as its name, such as '1'".into(),
            );
        }
        match self {
            VersionPolicy::All => Ok(there),
            VersionPolicy::Latest(count) => Ok(there.split_off(there.len().saturating_sub(*count))),
            VersionPolicy::Specific(versions) => {
                match versions.iter().find(|version| !there.contains(version)) {
                    None => Ok(versions.clone()),
                    Some(version) => {
                        Err(format!("version_policy names version {version}, and there are only {there:?}"))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_choose() {
        let there = [10, 2, 1];
        assert_eq!(VersionPolicy::Latest(1).choose(&there), Ok(vec![10]));
        assert_eq!(VersionPolicy::Latest(2).choose(&there), Ok(vec![2, 10]));
        assert_eq!(VersionPolicy::Latest(9).choose(&there), Ok(vec![1, 2, 10]));
        assert_eq!(VersionPolicy::All.choose(&there), Ok(vec![1, 2, 10]));
        assert_eq!(VersionPolicy::Specific(vec![1, 10]).choose(&there), Ok(vec![1, 10]));
        assert!(VersionPolicy::Specific(vec![3]).choose(&there).is_err());
        assert!(VersionPolicy::All.choose(&[]).is_err());
    }
}
